# SPDX-License-Identifier: Apache-2.0
"""An image of a server that takes the place of an older one."""

from collections.abc import Mapping
from typing import Any

import webob
from oslo_config import cfg

from nova_snap.api import image_requests, policies
from nova_snap.api.policies import create_backup as rules
from nova_snap.api.schemas import create_backup as schema
from nova_snap.api.server_base import ServerController
from nova_snap.api.validation import check_body
from nova_snap.api.wsgi import Request
from nova_snap.compute.api import API


class Controller(ServerController):
    """The action ``createBackup``."""

    def __init__(self, conf: cfg.ConfigOpts, compute_api: API, enforcer: policies.Enforcer) -> None:
        super().__init__(conf, enforcer)
        self._compute_api = compute_api

    def create_backup(
        self, request: Request, server_id: str, body: Mapping[str, Any]
    ) -> webob.Response:
        """``POST /servers/{server_id}/action`` with ``createBackup``."""
        check_body(body, schema.CREATE_BACKUP)
        context = request.context
        instance = self._authorized_server(context, server_id, rules.CREATE_BACKUP)
        entity = body["createBackup"]
        rotation = int(entity["rotation"])
        properties: dict[str, str] = entity.get("metadata", {})
        image_requests.check_metadata_quota(self._conf, request, properties)
        image = self._compute_api.backup(
            context,
            instance,
            entity["name"],
            entity["backup_type"],
            rotation,
            extra_properties=properties,
        )
        return image_requests.accepted(
            request, self._compute_api, image["id"] if rotation else None
        )
