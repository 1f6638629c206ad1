# SPDX-License-Identifier: Apache-2.0
"""What a flavor says beside its sizes, and who may use one that is not public."""

from collections.abc import Mapping
from typing import Any

import webob

from nova_snap import exception
from nova_snap.api import errors, flavor_lookup, policies, text
from nova_snap.api.policies import flavors as rules
from nova_snap.api.schemas import flavors as schema
from nova_snap.api.validation import check_body
from nova_snap.api.wsgi import Request, empty_response, json_response

_LENGTH = 255


class NoAccessList(exception.NotFound):
    msg = "Access list not available for public flavors."


class Controller:
    """``/flavors/{flavor_id}/os-extra_specs`` and ``/flavors/{flavor_id}/os-flavor-access``."""

    def __init__(self, enforcer: policies.Enforcer) -> None:
        self._enforcer = enforcer

    def index(self, request: Request, flavor_id: str) -> webob.Response:
        """``GET .../os-extra_specs``."""
        self._enforcer.authorize(request.context, rules.EXTRA_SPECS_INDEX)
        flavor = flavor_lookup.find(request.context, flavor_id)
        return json_response({"extra_specs": dict(flavor.extra_specs)})

    def show(self, request: Request, flavor_id: str, key: str) -> webob.Response:
        """``GET .../os-extra_specs/{key}``."""
        self._enforcer.authorize(request.context, rules.EXTRA_SPECS_SHOW)
        flavor = flavor_lookup.find(request.context, flavor_id)
        if key not in flavor.extra_specs:
            raise exception.FlavorExtraSpecNotFound(
                flavor_id=flavor.flavorid, key=text.shorten(key)
            )
        return json_response({key: flavor.extra_specs[key]})

    def create(self, request: Request, flavor_id: str, body: Mapping[str, Any]) -> webob.Response:
        """``POST .../os-extra_specs``."""
        self._enforcer.authorize(request.context, rules.EXTRA_SPECS_CREATE)
        check_body(body, schema.EXTRA_SPECS)
        specs = _as_strings(body["extra_specs"])
        flavor_lookup.find(request.context, flavor_id).set_extra_specs(request.context, specs)
        return json_response({"extra_specs": specs})

    def update(
        self, request: Request, flavor_id: str, key: str, body: Mapping[str, Any]
    ) -> webob.Response:
        """``PUT .../os-extra_specs/{key}``."""
        self._enforcer.authorize(request.context, rules.EXTRA_SPECS_UPDATE)
        check_body(body, schema.EXTRA_SPEC)
        if key not in body:
            raise errors.ValidationError(reason="Request body and URI mismatch")
        specs = _as_strings(body)
        flavor_lookup.find(request.context, flavor_id).set_extra_specs(request.context, specs)
        return json_response(specs)

    def delete(self, request: Request, flavor_id: str, key: str) -> webob.Response:
        """``DELETE .../os-extra_specs/{key}``."""
        self._enforcer.authorize(request.context, rules.EXTRA_SPECS_DELETE)
        flavor = flavor_lookup.find(request.context, flavor_id)
        flavor.delete_extra_spec(request.context, text.shorten(key, _LENGTH))
        return empty_response(200)

    def access(self, request: Request, flavor_id: str) -> webob.Response:
        """``GET .../os-flavor-access``: a flavor that is not public is for administrators only."""
        self._enforcer.authorize(request.context, rules.ACCESS)
        flavor = flavor_lookup.find(request.context, flavor_id)
        if flavor.is_public:
            raise NoAccessList()
        return json_response({"flavor_access": []})


def _as_strings(specs: Mapping[str, Any]) -> dict[str, str]:
    """Numbers are kept as what they look like."""
    found = {key: str(value) for key, value in specs.items()}
    for key, value in found.items():
        if len(value) > _LENGTH:
            raise errors.ValidationError(
                reason=f"Invalid input for field/attribute {key}. Value: {text.shorten(value)}. "
                f"It is too long (at most {_LENGTH} characters)"
            )
    return found
