# SPDX-License-Identifier: Apache-2.0
"""Servers: lists, one of them, and the image that is made from one."""

from collections.abc import Mapping, Sequence
from typing import Any

import webob
from oslo_config import cfg

from nova_snap.api import image_requests, policies, server_search
from nova_snap.api.policies import servers as rules
from nova_snap.api.schemas import servers as schema
from nova_snap.api.server_base import ServerController
from nova_snap.api.validation import check_body
from nova_snap.api.views import servers as views
from nova_snap.api.wsgi import Request, json_response
from nova_snap.compute.api import API
from nova_snap.objects.block_device import BlockDeviceMappingList
from nova_snap.objects.instance import Instance


class Controller(ServerController):
    """Looking at servers, and making images of them."""

    def __init__(self, conf: cfg.ConfigOpts, compute_api: API, enforcer: policies.Enforcer) -> None:
        super().__init__(conf, enforcer)
        self.compute_api = compute_api

    # -- looking ---------------------------------------------------------------------------

    def index(self, request: Request) -> webob.Response:
        """``GET /servers``."""
        self._enforcer.authorize(request.context, rules.INDEX)
        instances, more = self._page(request, detailed=False)
        builder = self._view_builder(request)
        servers = [builder.basic(instance) for instance in instances]
        return self._list_response(request, servers, "servers", more)

    def detail(self, request: Request) -> webob.Response:
        """``GET /servers/detail``."""
        self._enforcer.authorize(request.context, rules.DETAIL)
        instances, more = self._page(request, detailed=True)
        visible = self._visible(request.context, None)
        builder = self._view_builder(request)
        shown = self._with_related(request.context, instances, visible)
        servers = [builder.detail(each, visible) for each in shown]
        return self._list_response(request, servers, "servers/detail", more)

    def show(self, request: Request, server_id: str) -> webob.Response:
        """``GET /servers/{server_id}``."""
        context = request.context
        instance = self._authorized_server(context, server_id, rules.SHOW)
        visible = self._visible(context, {"project_id": instance.project_id})
        (shown,) = self._with_related(context, [instance], visible)
        return json_response({"server": self._view_builder(request).show(shown, visible)})

    # -- actions ---------------------------------------------------------------------------

    def _action_create_image(
        self, request: Request, server_id: str, body: Mapping[str, Any]
    ) -> webob.Response:
        """``POST /servers/{server_id}/action`` with ``createImage``."""
        check_body(body, schema.CREATE_IMAGE)
        context = request.context
        instance = self._get_server(context, server_id)
        target = {"project_id": instance.project_id}
        self._enforcer.authorize(context, rules.CREATE_IMAGE, target)
        entity = body["createImage"]
        properties: dict[str, str] = entity.get("metadata", {})
        image_requests.check_metadata_quota(self._conf, request, properties)
        bdms = BlockDeviceMappingList.get_by_instance_uuid(context, instance.uuid)
        if self.compute_api.is_volume_backed_instance(context, instance, bdms):
            self._enforcer.authorize(context, rules.CREATE_IMAGE_VOLUME_BACKED, target)
            take = self.compute_api.snapshot_volume_backed
        else:
            take = self.compute_api.snapshot
        image = take(context, instance, entity["name"], extra_properties=properties)
        return image_requests.accepted(request, self.compute_api, image["id"])

    # -- helpers ---------------------------------------------------------------------------

    def _page(self, request: Request, *, detailed: bool) -> tuple[Sequence[Instance], bool]:
        """Instances, and whether there may be more after them."""
        search = server_search.parse(
            request, self._enforcer, detailed=detailed, max_limit=self._conf.api.max_limit
        )
        if search is None or search.limit == 0:
            return [], False
        instances = self.compute_api.get_all(
            request.context,
            search.filters,
            limit=search.limit,
            marker=search.marker,
            sort=search.sort,
        )
        return instances, len(instances) == search.limit

    def _list_response(
        self, request: Request, servers: list[views.View], path: str, more: bool
    ) -> webob.Response:
        body: dict[str, Any] = {"servers": servers}
        if more:
            body["servers_links"] = self._links(request).next_page(path, servers[-1]["id"])
        return json_response(body)
