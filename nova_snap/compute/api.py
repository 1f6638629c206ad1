# SPDX-License-Identifier: Apache-2.0
"""What may be asked of the compute service: everything that happens before a host is involved."""

from collections.abc import Mapping, Sequence
from typing import Any

from oslo_config import cfg

from nova_snap.context import RequestContext
from nova_snap.db.queries import InstanceFilters
from nova_snap.objects.block_device import BlockDeviceMappingList
from nova_snap.objects.instance import Instance, InstanceList


class API:
    """The compute API."""

    def __init__(self, conf: cfg.ConfigOpts, image_api: Any, compute_rpcapi: Any) -> None: ...

    def get(self, context: RequestContext, instance_id: str) -> Instance:
        """:raises nova_snap.exception.InstanceNotFound: also for another project's."""
        raise NotImplementedError

    def get_all(
        self,
        context: RequestContext,
        filters: InstanceFilters,
        *,
        limit: int | None = None,
        marker: str | None = None,
        sort: Sequence[tuple[str, str]] = (("created_at", "desc"),),
    ) -> list[Instance]: 
        raise NotImplementedError

    def is_volume_backed_instance(
        self, context: RequestContext, instance: Instance, bdms: BlockDeviceMappingList
    ) -> bool:
        raise NotImplementedError

    def snapshot(
        self,
        context: RequestContext,
        instance: Instance,
        name: str,
        extra_properties: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """Returns the image record: at least ``id``."""
        raise NotImplementedError

    def snapshot_volume_backed(
        self,
        context: RequestContext,
        instance: Instance,
        name: str,
        extra_properties: Mapping[str, str] | None = None,
    ) -> Mapping[str, Any]:
        """:raises nova_snap.exception.VolumeBackedUnsupported: always, for now."""
        raise NotImplementedError
