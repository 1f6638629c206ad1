# SPDX-License-Identifier: Apache-2.0
"""Flavors: the sizes that servers are made in."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import webob
from oslo_config import cfg
from oslo_utils import strutils, uuidutils

from nova_snap.api import errors, flavor_lookup, policies, text
from nova_snap.api.policies import flavors as rules
from nova_snap.api.schemas import flavors as schema
from nova_snap.api.schemas.types import MAX_INT
from nova_snap.api.validation import check_body, check_query
from nova_snap.api.views import flavors as views
from nova_snap.api.views.links import Links
from nova_snap.api.wsgi import Request, empty_response, json_response
from nova_snap.context import RequestContext
from nova_snap.objects.flavor import Flavor, FlavorList

_ID_LENGTH: Final = 255


class Controller:
    """``/flavors`` and single ones."""

    def __init__(self, conf: cfg.ConfigOpts, enforcer: policies.Enforcer) -> None:
        self._conf = conf
        self._enforcer = enforcer

    def index(self, request: Request) -> webob.Response:
        """``GET /flavors``."""
        flavors, more = self._page(request)
        builder = self._view_builder(request)
        return self._list_response(request, [builder.basic(each) for each in flavors], "", more)

    def detail(self, request: Request) -> webob.Response:
        """``GET /flavors/detail``."""
        flavors, more = self._page(request)
        builder = self._view_builder(request)
        views = [builder.detail(each) for each in flavors]
        return self._list_response(request, views, "/detail", more)

    def show(self, request: Request, flavor_id: str) -> webob.Response:
        """``GET /flavors/{flavor_id}``."""
        flavor = flavor_lookup.find(request.context, flavor_id)
        return json_response({"flavor": self._view_builder(request).detail(flavor)})

    def create(self, request: Request, body: Mapping[str, Any]) -> webob.Response:
        """``POST /flavors``."""
        self._enforcer.authorize(request.context, rules.CREATE)
        check_body(body, schema.create(request.microversion))
        flavor = _new_flavor(body["flavor"])
        flavor.create(request.context)
        return json_response({"flavor": self._view_builder(request).detail(flavor)})

    def update(self, request: Request, flavor_id: str, body: Mapping[str, Any]) -> webob.Response:
        """``PUT /flavors/{flavor_id}``."""
        if not request.microversion.at_least(55):
            raise errors.NoSuchResource()
        self._enforcer.authorize(request.context, rules.UPDATE)
        check_body(body, schema.UPDATE)
        flavor = flavor_lookup.find(request.context, flavor_id)
        flavor.describe(request.context, body["flavor"]["description"])
        return json_response({"flavor": self._view_builder(request).detail(flavor)})

    def delete(self, request: Request, flavor_id: str) -> webob.Response:
        """``DELETE /flavors/{flavor_id}``."""
        self._enforcer.authorize(request.context, rules.DELETE)
        flavor_lookup.find(request.context, flavor_id).destroy(request.context)
        return empty_response(202)

    # -- helpers ---------------------------------------------------------------------------

    def _page(self, request: Request) -> tuple[Sequence[Flavor], bool]:
        """Flavors, and whether there may be more after them."""
        query = request.query()
        check_query(query, schema.list_query(request.microversion))
        # A parameter that is given more than once counts the last time.
        options = {key: values[-1] for key, values in query.items()}
        most: int = self._conf.api.max_limit
        limit = min(int(options.get("limit", most)), most)
        if limit == 0:
            return [], False
        flavors = FlavorList.get_all(
            request.context,
            is_public=_is_public(request.context, options.get("is_public")),
            min_memory_mb=_least(options, "minRam"),
            min_root_gb=_least(options, "minDisk"),
            limit=limit,
            marker=options.get("marker"),
            sort=[_order(options)],
        )
        return flavors, len(flavors) == limit

    def _list_response(
        self, request: Request, flavors: list[views.View], path: str, more: bool
    ) -> webob.Response:
        body: dict[str, Any] = {"flavors": flavors}
        if more:
            links = Links(self._conf, request)
            body["flavors_links"] = links.next_page(f"flavors{path}", flavors[-1]["id"])
        return json_response(body)

    def _view_builder(self, request: Request) -> views.ViewBuilder:
        visible = self._enforcer.allows(request.context, rules.EXTRA_SPECS_INDEX)
        return views.ViewBuilder(
            Links(self._conf, request), request.microversion, extra_specs=visible
        )


def _new_flavor(given: Mapping[str, Any]) -> Flavor:
    """What the body asks for; the schema has accepted it."""
    identifier = given.get("id")
    flavor_id = uuidutils.generate_uuid() if identifier is None else str(identifier)
    if len(flavor_id) > _ID_LENGTH:
        raise errors.ValidationError(
            reason=f"Invalid input for field/attribute id. Value: {text.shorten(flavor_id)}. "
            f"It is too long (at most {_ID_LENGTH} characters)"
        )
    return Flavor(
        flavorid=flavor_id,
        name=given["name"],
        memory_mb=int(given["ram"]),
        vcpus=int(given["vcpus"]),
        root_gb=int(given["disk"]),
        ephemeral_gb=int(given.get("OS-FLV-EXT-DATA:ephemeral", 0)),
        swap=int(given.get("swap", 0)),
        rxtx_factor=_rxtx_factor(given.get("rxtx_factor", 1.0)),
        is_public=strutils.bool_from_string(given.get("os-flavor-access:is_public", True)),
        description=given.get("description"),
    )


def _rxtx_factor(given: float | str) -> float:
    factor = float(given)
    if factor <= 0:
        raise errors.ValidationError(
            reason=f"Invalid input for field/attribute rxtx_factor. Value: {text.shorten(given)}. "
            "It must be more than 0"
        )
    return factor


def _is_public(context: RequestContext, given: str | None) -> bool | None:
    """Which flavors are listed; ``None`` for both kinds. Only administrators may choose."""
    if given is None or not context.is_admin:
        return True
    if given.strip().lower() == "none":
        return None
    try:
        return bool(strutils.bool_from_string(text.shorten(given), strict=True))
    except ValueError:
        raise errors.ValidationError(
            reason=f"Invalid is_public filter [{text.shorten(given)}]"
        ) from None


def _least(options: Mapping[str, str], name: str) -> int | None:
    if name not in options:
        return None
    given = options[name]
    try:
        value = int(text.shorten(given))
    except ValueError:
        raise errors.ValidationError(
            reason=f"Invalid {name} filter [{text.shorten(given)}]"
        ) from None
    # Beyond it databases refuse to compare, and nothing is found either way.
    return max(min(value, MAX_INT), -MAX_INT)


def _order(options: Mapping[str, str]) -> tuple[str, str]:
    key = options.get("sort_key") or "flavorid"
    direction = options.get("sort_dir") or "asc"
    if key not in schema.SORT_KEYS:
        raise errors.ValidationError(reason=f"Sort key supplied was not valid: {text.shorten(key)}")
    if direction not in ("asc", "desc"):
        raise errors.ValidationError(
            reason=f"Unknown sort direction: {text.shorten(direction)}; it must be asc or desc"
        )
    return key, direction
