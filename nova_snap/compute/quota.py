# SPDX-License-Identifier: Apache-2.0
"""Whether a project may have more."""

from typing import Final

from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.objects.flavor import Flavor
from nova_snap.objects.quota import Usage

UNLIMITED: Final = -1

_RESOURCES: Final = ("cores", "instances", "ram")


def allowed_count(
    context: RequestContext, conf: cfg.ConfigOpts, flavor: Flavor, min_count: int, max_count: int
) -> int:
    """How many instances of the flavor the context's project may have on top of its own.

    :returns: between the two counts.
    :raises nova_snap.exception.QuotaExceeded: if there is no room for ``min_count``.
    """
    used = Usage.of_project(context, context.project_id or "")
    one = _request(flavor, 1)
    rooms = [
        (conf.quota[name] - getattr(used, name)) // getattr(one, name)
        for name in _RESOURCES
        if conf.quota[name] != UNLIMITED and getattr(one, name)
    ]
    count: int = min([max_count, *rooms])
    if count >= min_count:
        return count
    requested = _request(flavor, min_count)
    raise _exceeded(conf, _overs(conf, used, requested), used, requested)


def check_again(context: RequestContext, conf: cfg.ConfigOpts, flavor: Flavor, count: int) -> None:
    """After ``count`` instances were added: whether another request was faster.

    :raises nova_snap.exception.QuotaExceeded: if the project has more than it may by now.
    """
    now = Usage.of_project(context, context.project_id or "")
    requested = _request(flavor, count)
    overs = _overs(conf, now, Usage(0, 0, 0))
    if overs:
        before = Usage(
            now.instances - requested.instances,
            now.cores - requested.cores,
            now.ram - requested.ram,
        )
        raise _exceeded(conf, overs, before, requested)


def check_metadata_items(conf: cfg.ConfigOpts, count: int) -> None:
    """:raises nova_snap.exception.ServerMetadataLimitExceeded: if a server may not have so many."""
    allowed: int = conf.quota.metadata_items
    if allowed != UNLIMITED and count > allowed:
        raise exception.ServerMetadataLimitExceeded(allowed=allowed)


def _request(flavor: Flavor, count: int) -> Usage:
    return Usage(count, count * flavor.vcpus, count * flavor.memory_mb)


def _overs(conf: cfg.ConfigOpts, used: Usage, requested: Usage) -> list[str]:
    """The resources of which there would be too much."""
    return [
        name
        for name in _RESOURCES
        if conf.quota[name] != UNLIMITED
        and getattr(used, name) + getattr(requested, name) > conf.quota[name]
    ]


def _exceeded(
    conf: cfg.ConfigOpts, overs: list[str], used: Usage, requested: Usage
) -> exception.QuotaExceeded:
    def listed(values: list[object]) -> str:
        return ", ".join(str(value) for value in values)

    return exception.QuotaExceeded(
        overs=listed(list(overs)),
        requested=listed([getattr(requested, name) for name in overs]),
        used=listed([getattr(used, name) for name in overs]),
        allowed=listed([conf.quota[name] for name in overs]),
    )
