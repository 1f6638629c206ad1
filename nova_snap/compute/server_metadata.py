# SPDX-License-Identifier: Apache-2.0
"""The metadata that users give their servers."""

from collections.abc import Mapping
from typing import Final

from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import quota, state_checks, vm_states
from nova_snap.context import RequestContext
from nova_snap.objects import instance_metadata
from nova_snap.objects.instance import Instance

_ALLOWED: Final = (
    vm_states.ACTIVE,
    vm_states.PAUSED,
    vm_states.SUSPENDED,
    vm_states.STOPPED,
)


class ServerMetadata:
    """Reading and changing; of changes at the same time none is lost."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def update(
        self,
        context: RequestContext,
        instance: Instance,
        metadata: Mapping[str, str],
        replace: bool,
    ) -> dict[str, str]:
        """See :meth:`nova_snap.compute.lifecycle_api.LifecycleAPI.update_metadata`."""
        _check(instance, "update metadata")

        def new_from_old(old: dict[str, str]) -> dict[str, str]:
            new = dict(metadata) if replace else {**old, **metadata}
            quota.check_metadata_items(self._conf, len(new))
            return new

        return instance_metadata.change(context, instance.uuid, new_from_old)

    def delete_item(self, context: RequestContext, instance: Instance, key: str) -> None:
        """See :meth:`nova_snap.compute.lifecycle_api.LifecycleAPI.delete_metadata_item`."""
        _check(instance, "delete metadata")

        def new_from_old(old: dict[str, str]) -> dict[str, str]:
            if key not in old:
                raise exception.MetadataItemNotFound(instance_uuid=instance.uuid, key=key)
            return {name: value for name, value in old.items() if name != key}

        instance_metadata.change(context, instance.uuid, new_from_old)


def _check(instance: Instance, method: str) -> None:
    state_checks.check(instance, method, vm_states=_ALLOWED)
