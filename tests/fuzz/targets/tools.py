# SPDX-License-Identifier: Apache-2.0
"""What the programs ``rbd`` and ``ceph`` print, in JSON."""

import json
import random
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

from nova_snap import exception
from nova_snap.virt.libvirt import rbd
from tests.fuzz import mutation, parts
from tests.fuzz.target import Finding, Target

_PARENT: Final = {"pool": "images", "image": "base", "pool_namespace": "", "snapshot": "snap"}
_PRINTED: Final[tuple[Any, ...]] = (
    {"fsid": "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"},
    {"name": "disk", "size": 1 << 30, "format": 2, "parent": _PARENT},
    [{"id": 4, "name": "snap", "size": 1 << 30, "protected": "true"}],
    [_PARENT, {**_PARENT, "trash": True}],
    {"id": "task-1", "message": "flattening", "progress": 0.5, "retry_message": ""},
    {},
    [],
)


class Printed(rbd.Cluster):
    """Takes its answers from a test instead of a program."""

    printed = ""

    def _run(self, *arguments: Any, **options: Any) -> str:
        return self.printed


class Tools(Target):
    guided = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._cluster = Printed(parts.configuration(directory), rbd.Access("", "", ""))

    def seeds(self) -> Sequence[bytes]:
        return [*(json.dumps(value).encode() for value in _PRINTED), b"", b"{"]

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        try:
            value, donor = json.loads(data), json.loads(other)
        except (ValueError, RecursionError):
            return super().mutate(data, other, dice)
        if dice.random() < 0.3:
            return super().mutate(data, other, dice)
        return mutation.to_text(mutation.of_json(value, donor, dice)).encode()

    def run(self, data: bytes) -> Hashable:
        cluster, image = self._cluster, rbd.Image("pool", "image")
        cluster.printed = data.decode(errors="replace")
        outcome: list[Hashable] = []
        for ask in (
            cluster.fsid,
            lambda: cluster.info(image),
            lambda: cluster.snapshots(image),
            lambda: cluster.children(image),
            lambda: cluster.add_flatten_task(image),
            lambda: cluster.task("task-1"),
        ):
            try:
                found = ask()
            except exception.CephFailed as error:
                outcome.append(error.reason[:30])
                continue
            if isinstance(found, rbd.ImageInfo) and not 0 <= found.size < 1 << 63:
                raise Finding("a size that no disk has is believed", repr(found)[:200])
            outcome.append(type(found).__name__)
        return tuple(outcome)


TARGET = Tools
