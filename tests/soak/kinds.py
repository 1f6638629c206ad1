# SPDX-License-Identifier: Apache-2.0
"""The snapshots that are taken, again and again in another order."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from tests.crash.scenarios import SCENARIOS, GuestName, Scenario

Ending = Literal["whole", "retried", "cancelled", "failed"]

# MiB/s, slow enough to be met in the middle.
_SLOW = 8


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of snapshot.

    :ivar ending: ``retried``: the upload breaks once in the middle, and is good at the second try;
        ``cancelled``: the image is deleted in the middle; ``failed``: every upload breaks.
    :ivar glance: options of ``[glance]``.
    """

    scenario: Scenario
    ending: Ending = "whole"
    glance: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        """For people."""
        return self.scenario.name

    @property
    def options(self) -> dict[str, dict[str, Any]]:
        """What differs from the service's configuration, by group."""
        return {"libvirt": dict(self.scenario.options), "glance": dict(self.glance)}


def _stream(name: str, guest: GuestName, ending: Ending = "whole", **options: Any) -> Kind:
    scenario = Scenario(name, guest, "stream", {"snapshot_compression": "none", **options})
    return Kind(scenario, ending, {"num_retries": 1} if ending == "failed" else {})


def _known(name: str, **changes: Any) -> Kind:
    return Kind(dataclasses.replace(SCENARIOS[name], **changes))


KINDS = (
    _known("stream-quiesced"),
    _known("stream-zstd"),
    _stream("stream-zlib", "writer", snapshot_compression="zlib"),
    _known("stream-paused"),
    _stream("stream-auto", "still", snapshot_compression="auto"),
    _known("stream-all-disks"),
    _known("backup"),
    _known("offline"),
    _known("offline-zstd"),
    _known("mirror"),
    _known("mirror-paused"),
    _known("managed-save", guest="saved"),
    _stream("retried", "still", "retried"),
    _stream("cancelled", "writer", "cancelled", snapshot_bandwidth=_SLOW),
    _stream("failed", "still", "failed"),
)
"""Each once in a deck. Two decks are as long as a window of the verdict, so that every window has
the same snapshots in it."""


def deck(seed: int) -> Iterator[Kind]:
    """For ever: each kind once, in random order, then each once again."""
    rng = random.Random(seed)
    while True:
        yield from rng.sample(KINDS, len(KINDS))
