# SPDX-License-Identifier: Apache-2.0
"""Which compute hosts there are to choose from, and which of them takes a new instance."""

from typing import Final

from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.objects import placement
from nova_snap.objects.service import Service

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
    :raises nova_snap.exception.NoValidHost: if no host is up and enabled, or the wanted one is not.
    """
    up = [service.host for service in Service.get_up(context, conf.service_down_time)]
    if wanted is not None:
        if wanted not in up:
            reason = f"Host '{wanted}' is not up and enabled."
            raise exception.NoValidHost(reason=reason)
        return [wanted] * count
    if not up:
        raise exception.NoValidHost(reason=_NOT_ENOUGH)
    known = placement.memory_by_host(context)
    given_away = {host: known.get(host, 0) for host in sorted(up)}
    chosen = []
    for _ in range(count):
        host = min(given_away, key=lambda name: given_away[name])
        given_away[host] += memory_mb
        chosen.append(host)
    return chosen
