# SPDX-License-Identifier: Apache-2.0
"""The disks of an instance, as Nova tells of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

from nova_snap.context import RequestContext
from nova_snap.db import models, queries
from nova_snap.db.session import retry_on_deadlock


@dataclasses.dataclass
class BlockDeviceMapping:
    """One disk.

    :ivar source_type: ``image``, ``blank``, ``volume`` or ``snapshot``.
    :ivar destination_type: ``local`` or ``volume``.
    :ivar boot_index: 0 for the disk that the guest boots from, -1 or ``None`` for others.
    :ivar volume_size: in GiB.
    """

    source_type: str
    destination_type: str
    device_type: str | None = None
    disk_bus: str | None = None
    device_name: str | None = None
    boot_index: int | None = None
    guest_format: str | None = None
    image_id: str | None = None
    volume_id: str | None = None
    volume_size: int | None = None
    delete_on_termination: bool = False

    @property
    def is_root(self) -> bool:
        """Whether the guest boots from it."""
        return self.boot_index == 0

    @property
    def is_volume(self) -> bool:
        """Whether it is a Cinder volume."""
        return self.destination_type == "volume"


_FIELDS = tuple(field.name for field in dataclasses.fields(BlockDeviceMapping))


class BlockDeviceMappingList(Sequence[BlockDeviceMapping]):
    """The disks of one instance, in the order in which they were added."""

    def __init__(self, mappings: Sequence[BlockDeviceMapping] = ()) -> None:
        self._mappings = list(mappings)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        return self._mappings[index]

    def __len__(self) -> int:
        return len(self._mappings)

    def __iter__(self) -> Iterator[BlockDeviceMapping]:
        return iter(self._mappings)

    @classmethod
    def get_by_instance_uuid(cls, context: RequestContext, uuid: str) -> BlockDeviceMappingList:
        """The disks of the instance; none for an instance that is not there."""
        return cls.by_instance_uuids(context, [uuid])[uuid]

    @classmethod
    def by_instance_uuids(
        cls, context: RequestContext, uuids: Sequence[str]
    ) -> dict[str, BlockDeviceMappingList]:
        """The disks of many instances with one query."""
        found: dict[str, list[BlockDeviceMapping]] = {uuid: [] for uuid in uuids}
        with context.db.reader() as session:
            for uuid, row in queries.bdms_of(session, uuids):
                values = {name: getattr(row, name) for name in _FIELDS}
                found[uuid].append(BlockDeviceMapping(**values))
        return {uuid: cls(mappings) for uuid, mappings in found.items()}

    @retry_on_deadlock
    def create(self, context: RequestContext, instance_uuid: str) -> None:
        """Add them all to an instance that has just been created."""
        self._write(context, instance_uuid, replace=False)

    @retry_on_deadlock
    def replace(self, context: RequestContext, instance_uuid: str) -> None:
        """Make them all the disks that an instance has."""
        self._write(context, instance_uuid, replace=True)

    def _write(self, context: RequestContext, instance_uuid: str, *, replace: bool) -> None:
        with context.db.writer() as session:
            instance = queries.instance_get(session, instance_uuid)
            if instance is None:
                raise ValueError(f"no instance {instance_uuid}")
            if replace:
                queries.bdms_delete(session, instance.id)
            for mapping in self._mappings:
                values = {name: getattr(mapping, name) for name in _FIELDS}
                session.add(models.BlockDeviceMapping(instance_id=instance.id, **values))

    def root_bdm(self) -> BlockDeviceMapping | None:
        """The disk that the guest boots from; ``None`` if no mapping says so."""
        return next((mapping for mapping in self._mappings if mapping.is_root), None)
