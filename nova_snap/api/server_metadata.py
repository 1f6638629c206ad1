# SPDX-License-Identifier: Apache-2.0
"""The metadata that users give their servers."""

from collections.abc import Mapping
from typing import Any

import webob
from oslo_config import cfg

from nova_snap import exception
from nova_snap.api import errors, policies
from nova_snap.api.policies import server_metadata as rules
from nova_snap.api.schemas import server_update as schema
from nova_snap.api.server_base import ServerController
from nova_snap.api.validation import check_body
from nova_snap.api.wsgi import Request, empty_response, json_response
from nova_snap.compute.lifecycle_api import LifecycleAPI


class Controller(ServerController):
    """``/servers/{server_id}/metadata`` and the items in it."""

    def __init__(
        self, conf: cfg.ConfigOpts, lifecycle_api: LifecycleAPI, enforcer: policies.Enforcer
    ) -> None:
        super().__init__(conf, enforcer)
        self._lifecycle_api = lifecycle_api

    def index(self, request: Request, server_id: str) -> webob.Response:
        """``GET .../metadata``."""
        instance = self._authorized_server(request.context, server_id, rules.INDEX)
        metadata = self._lifecycle_api.get_metadata(request.context, instance)
        return json_response({"metadata": metadata})

    def create(self, request: Request, server_id: str, body: Mapping[str, Any]) -> webob.Response:
        """``POST .../metadata``: adds to what there is."""
        return self._set(request, server_id, body, rules.CREATE, replace=False)

    def update_all(
        self, request: Request, server_id: str, body: Mapping[str, Any]
    ) -> webob.Response:
        """``PUT .../metadata``: replaces what there is."""
        return self._set(request, server_id, body, rules.UPDATE_ALL, replace=True)

    def show(self, request: Request, server_id: str, key: str) -> webob.Response:
        """``GET .../metadata/{key}``."""
        instance = self._authorized_server(request.context, server_id, rules.SHOW)
        metadata = self._lifecycle_api.get_metadata(request.context, instance)
        if key not in metadata:
            raise exception.MetadataItemNotFound(instance_uuid=instance.uuid, key=key)
        return json_response({"meta": {key: metadata[key]}})

    def update(
        self, request: Request, server_id: str, key: str, body: Mapping[str, Any]
    ) -> webob.Response:
        """``PUT .../metadata/{key}``."""
        check_body(body, schema.METADATA_ITEM)
        item = body["meta"]
        instance = self._authorized_server(request.context, server_id, rules.UPDATE)
        if key not in item:
            raise errors.ValidationError(reason="Request body and URI mismatch")
        self._lifecycle_api.update_metadata(request.context, instance, item, replace=False)
        return json_response({"meta": item})

    def delete(self, request: Request, server_id: str, key: str) -> webob.Response:
        """``DELETE .../metadata/{key}``."""
        instance = self._authorized_server(request.context, server_id, rules.DELETE)
        self._lifecycle_api.delete_metadata_item(request.context, instance, key)
        return empty_response(204)

    def _set(
        self, request: Request, server_id: str, body: Mapping[str, Any], rule: str, *, replace: bool
    ) -> webob.Response:
        check_body(body, schema.METADATA_ALL)
        instance = self._authorized_server(request.context, server_id, rule)
        metadata = self._lifecycle_api.update_metadata(
            request.context, instance, body["metadata"], replace=replace
        )
        return json_response({"metadata": metadata})
