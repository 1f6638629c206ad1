# SPDX-License-Identifier: Apache-2.0
"""What the other rooms know of volumes and their snapshots."""

import dataclasses
from collections.abc import Mapping
from typing import Final

CREATING: Final = "creating"
AVAILABLE: Final = "available"


@dataclasses.dataclass(frozen=True)
class Volume:
    """A volume.

    :ivar size: in GiB.
    :ivar status: such as ``in-use``, or ``error``.
    :ivar attached_to: uuids of the instances that the volume service takes it to be attached to.
    :ivar image_properties: of the image that it was made from; empty for any other volume.
    """

    id: str
    size: int
    status: str
    description: str | None = None
    attached_to: tuple[str, ...] = ()
    image_properties: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A snapshot of a volume.

    :ivar status: ``creating``, ``available``, ``error``, ``deleting``, ...
    :ivar image_id: of the image that it was made for; ``None`` if nova_snap has not made it.
    """

    id: str
    volume_id: str
    status: str
    image_id: str | None = None


@dataclasses.dataclass(frozen=True)
class SnapshotLimits:
    """How many snapshots a project may have. ``maximum`` is -1 where there is no limit."""

    maximum: int
    used: int

    def has_room_for(self, count: int) -> bool:
        """Whether so many more are within it."""
        return self.maximum < 0 or self.used + count <= self.maximum
