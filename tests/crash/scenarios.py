# SPDX-License-Identifier: Apache-2.0
"""What is being done when the process dies."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

GuestName = Literal["writer", "still", "off", "saved"]


@dataclasses.dataclass(frozen=True)
class Scenario:
    """One kind of snapshot.

    :ivar guest: ``writer`` runs, has an agent and writes all the time; ``still`` is paused, so that
        its images can be compared; ``off`` is shut off; ``saved`` is like ``still``, where there is
        one. Each has two disks.
    :ivar method: that the snapshot is expected to be taken by.
    :ivar options: of ``[libvirt]``.
    :ivar backup: asked for by createBackup, which rotates.
    :ivar old_libvirt: undefine the domain for a block copy, as old versions of libvirt want it.
    """

    name: str
    guest: GuestName
    method: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    backup: bool = False
    old_libvirt: bool = False

    @property
    def all_disks(self) -> bool:
        """Every disk becomes an image."""
        return bool(self.options.get("snapshot_all_disks"))


def _scenario(name: str, guest: GuestName, method: str, **more: Any) -> Scenario:
    backup, old = more.pop("backup", False), more.pop("old_libvirt", False)
    if method not in ("stream", "offline"):
        more["snapshot_method"] = method
    options = {"snapshot_compression": "none", **more}
    return Scenario(name, guest, method, options, backup=backup, old_libvirt=old)


SCENARIOS = {
    each.name: each
    for each in (
        _scenario("stream-quiesced", "writer", "stream"),
        _scenario("offline", "off", "offline"),
        _scenario("mirror", "writer", "mirror"),
        _scenario("managed-save", "still", "managed_save"),
        _scenario("backup", "still", "stream", backup=True),
        _scenario("stream-all-disks", "still", "stream", snapshot_all_disks=True),
        _scenario("mirror-undefine", "writer", "mirror", old_libvirt=True),
        _scenario("managed-save-running", "writer", "managed_save"),
        _scenario("stream-zstd", "writer", "stream", snapshot_compression="zstd"),
        _scenario("stream-paused", "still", "stream"),
        _scenario("mirror-paused", "still", "mirror"),
        _scenario("offline-zstd", "off", "offline", snapshot_compression="zstd"),
    )
}
"""By name."""
