# SPDX-License-Identifier: Apache-2.0
"""Which compute hosts there are to choose from, and which of them takes a new instance."""

from typing import Final

from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.objects import placement
from nova_snap.objects.service import ComputeNode, Service

_NOT_ENOUGH: Final = "There are not enough hosts available."


def is_up(context: RequestContext, conf: cfg.ConfigOpts, host: str) -> bool:
    """Whether the compute service of a host is alive, as far as its reports say."""
    try:
        service = Service.get_by_host(context, host)
    except exception.HostBinaryNotFound:
        return False
    return service.is_up(conf.service_down_time)


def choose(
    context: RequestContext,
    conf: cfg.ConfigOpts,
    count: int,
    memory_mb: int,
    wanted: str | None = None,
) -> list[str]:
    """Hosts for ``count`` new instances: each goes where the least memory is given away by then.

    :param memory_mb: what each of the instances takes, in MiB.
    :param wanted: the only host to consider.
    :raises nova_snap.exception.NoValidHost: if no host is up, enabled, and has room for them, or
        the wanted one is not.
    """
    up = {service.host for service in Service.get_up(context, conf.service_down_time)}
    if wanted is not None and wanted not in up:
        raise exception.NoValidHost(reason=f"Host '{wanted}' is not up and enabled.")
    known = placement.memory_by_host(context)
    given_away = {
        host: known.get(host, 0) for host in sorted(up) if wanted is None or host == wanted
    }
    limits = _limits(context, conf)
    chosen = []
    for _ in range(count):
        fitting = [
            host
            for host, given in given_away.items()
            if given + memory_mb <= limits.get(host, given + memory_mb)
        ]
        if not fitting:
            raise exception.NoValidHost(reason=_NOT_ENOUGH)
        host = min(fitting, key=lambda name: given_away[name])
        given_away[host] += memory_mb
        chosen.append(host)
    return chosen


def _limits(context: RequestContext, conf: cfg.ConfigOpts) -> dict[str, float]:
    """MiB that each host may give away; a host that has not said what it has has no limit."""
    return {
        node.service.host: float(node.resources["memory_mb"]) * conf.ram_allocation_ratio
        for node in ComputeNode.get_all(context)
        if node.resources.get("memory_mb")
    }
