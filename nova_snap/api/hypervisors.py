# SPDX-License-Identifier: Apache-2.0
"""Hypervisors: the compute hosts, what they have and what runs there."""

from collections.abc import Sequence
from typing import Any

import webob
from oslo_config import cfg
from oslo_utils import strutils, uuidutils

from nova_snap import exception
from nova_snap.api import errors, policies, text
from nova_snap.api.policies import hypervisors as rules
from nova_snap.api.schemas import hypervisors as schema
from nova_snap.api.validation import check_query
from nova_snap.api.views import hypervisors as views
from nova_snap.api.views.links import Links
from nova_snap.api.wsgi import Request, json_response
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.service import ComputeNode

_PATTERN = "hypervisor_hostname_pattern"


class Controller:
    """``/os-hypervisors`` and what is below it."""

    def __init__(self, conf: cfg.ConfigOpts, enforcer: policies.Enforcer) -> None:
        self._conf = conf
        self._enforcer = enforcer

    def index(self, request: Request) -> webob.Response:
        """``GET /os-hypervisors``."""
        self._enforcer.authorize(request.context, rules.LIST)
        return self._list(request, "os-hypervisors", detailed=False)

    def detail(self, request: Request) -> webob.Response:
        """``GET /os-hypervisors/detail``."""
        self._enforcer.authorize(request.context, rules.LIST_DETAIL)
        return self._list(request, "os-hypervisors/detail", detailed=True)

    def show(self, request: Request, hypervisor_id: str) -> webob.Response:
        """``GET /os-hypervisors/{hypervisor_id}``."""
        context = request.context
        self._enforcer.authorize(context, rules.SHOW)
        query = request.query()
        check_query(query, schema.show_query(request.microversion))
        node = _get_node(request, hypervisor_id)
        builder = self._views(request)
        instances = _by_host(context, [node])[node.service.host]
        view = builder.detail(node, instances)
        if _with_servers(request, query):
            builder.with_servers(view, instances)
        return json_response({"hypervisor": view})

    def statistics(self, request: Request) -> webob.Response:
        """``GET /os-hypervisors/statistics``."""
        context = request.context
        self._enforcer.authorize(context, rules.STATISTICS)
        nodes = ComputeNode.get_all(context)
        instances = _by_host(context, nodes)
        pairs = [(node, instances[node.service.host]) for node in nodes]
        return json_response({"hypervisor_statistics": views.statistics(pairs)})

    def uptime(self, request: Request, hypervisor_id: str) -> webob.Response:
        """``GET /os-hypervisors/{hypervisor_id}/uptime``."""
        self._enforcer.authorize(request.context, rules.UPTIME)
        node = _get_node(request, hypervisor_id)
        if not node.service.is_up(self._conf.service_down_time):
            raise errors.MalformedRequest(
                reason=f"Service is unavailable at this time: compute host "
                f"{node.hypervisor_hostname} is down."
            )
        return json_response({"hypervisor": self._views(request).uptime(node)})

    def search(self, request: Request, hypervisor_id: str) -> webob.Response:
        """``GET /os-hypervisors/{hypervisor_hostname_pattern}/search``."""
        self._enforcer.authorize(request.context, rules.SEARCH)
        builder = self._views(request)
        found = _matching(request.context, hypervisor_id)
        return json_response({"hypervisors": [builder.basic(node) for node in found]})

    def servers(self, request: Request, hypervisor_id: str) -> webob.Response:
        """``GET /os-hypervisors/{hypervisor_hostname_pattern}/servers``."""
        context = request.context
        self._enforcer.authorize(context, rules.SERVERS)
        builder = self._views(request)
        nodes = _matching(context, hypervisor_id)
        instances = _by_host(context, nodes)
        found = [
            builder.with_servers(builder.basic(node), instances[node.service.host])
            for node in nodes
        ]
        return json_response({"hypervisors": found})

    # -- helpers ---------------------------------------------------------------------------

    def _list(self, request: Request, path: str, *, detailed: bool) -> webob.Response:
        context = request.context
        query = request.query()
        check_query(query, schema.list_query(request.microversion))
        nodes, more = self._page(request, query)
        builder = self._views(request)
        shown = []
        with_servers = _with_servers(request, query)
        instances = _by_host(context, nodes) if detailed or with_servers else {}
        for node in nodes:
            here = instances.get(node.service.host, [])
            view = builder.detail(node, here) if detailed else builder.basic(node)
            if with_servers:
                builder.with_servers(view, here)
            shown.append(view)
        body: dict[str, Any] = {"hypervisors": shown}
        if more:
            links = Links(self._conf, request)
            body["hypervisors_links"] = links.next_page(path, str(shown[-1]["id"]))
        return json_response(body)

    def _page(
        self, request: Request, query: dict[str, list[str]]
    ) -> tuple[Sequence[ComputeNode], bool]:
        """Compute nodes, and whether there may be more after them."""
        context = request.context
        version = request.microversion
        paged = version.at_least(33)
        if version.at_least(53) and _PATTERN in query:
            if "limit" in query or "marker" in query:
                raise errors.ValidationError(
                    reason=f"Paging over hypervisors with the {_PATTERN} query parameter is not "
                    "supported."
                )
            return _matching(context, query[_PATTERN][-1]), False
        limit = self._conf.api.max_limit
        marker = None
        if paged and "limit" in query:
            limit = min(int(query["limit"][-1]), limit)
        if paged and "marker" in query:
            marker = _marker(request, query["marker"][-1])
        if limit == 0:
            return [], False
        found = ComputeNode.get_all(context, limit=limit, marker=marker)
        return found, paged and len(found) == limit

    def _views(self, request: Request) -> views.ViewBuilder:
        return views.ViewBuilder(self._conf, request.microversion)


def _get_node(request: Request, given: str) -> ComputeNode:
    """The compute node that the path names: by number, from 2.53 on by uuid.

    :raises nova_snap.exception.ComputeHostNotFound: also for what is neither.
    """
    if request.microversion.at_least(53):
        if uuidutils.is_uuid_like(given):
            return ComputeNode.get_by_uuid(request.context, given)
    elif given.isascii() and given.isdigit() and len(given) < 10:
        return ComputeNode.get_by_id(request.context, int(given))
    raise exception.ComputeHostNotFound(host=text.shorten(given))


def _marker(request: Request, given: str) -> int:
    try:
        return _get_node(request, given).id
    except exception.ComputeHostNotFound:
        raise exception.MarkerNotFound(marker=text.shorten(given)) from None


def _matching(context: RequestContext, pattern: str) -> list[ComputeNode]:
    """The nodes whose host's name has the pattern in it.

    :raises nova_snap.exception.NoMatchingHypervisor: if there is none.
    """
    found = ComputeNode.get_all(context, pattern=pattern)
    if not found:
        raise exception.NoMatchingHypervisor(pattern=text.shorten(pattern))
    return found


def _with_servers(request: Request, query: dict[str, list[str]]) -> bool:
    if not request.microversion.at_least(53) or "with_servers" not in query:
        return False
    given = query["with_servers"][-1]
    try:
        return bool(strutils.bool_from_string(text.shorten(given), strict=True))
    except ValueError as error:
        raise errors.ValidationError(
            reason=f"Invalid input for query parameters with_servers. {error}"
        ) from None


def _by_host(context: RequestContext, nodes: Sequence[ComputeNode]) -> dict[str, list[Instance]]:
    """The instances on each of the hosts, by one query."""
    found: dict[str, list[Instance]] = {node.service.host: [] for node in nodes}
    if not found:
        return found
    (only, *others) = found
    filters = InstanceFilters(host=None if others else only)
    for instance in InstanceList.get_by_filters(context, filters, sort=[("created_at", "asc")]):
        if instance.host in found:
            found[instance.host].append(instance)
    return found
