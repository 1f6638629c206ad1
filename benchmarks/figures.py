# SPDX-License-Identifier: Apache-2.0
"""A figure, what it is to reach, and whether it does."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


class Unusable(Exception):
    """What was measured is not what was meant to be."""


@dataclass(frozen=True)
class Figure:
    """A line of the table.

    :ivar name: for programs, such as ``stream_to_upload``.
    :ivar title: for people.
    :ivar measured: for people, with its unit.
    :ivar reach: for people; empty for a figure that is only reported.
    :ivar reached: ``None`` for a figure that is only reported.
    :ivar data: what it was made from, for programs.
    """

    name: str
    title: str
    measured: str
    reach: str = ""
    reached: bool | None = None
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """How much is measured. Sizes are in MiB.

    :ivar rounds: of each comparison; the median of its rounds counts.
    :ivar random: incompressible content of the disk that speed is measured with.
    :ivar tree: files of an operating system on the disk that compression is measured with.
    :ivar small_tree: on a smaller one, and in a backing file.
    :ivar allocated: of the sparse disks, and of the smaller disk that memory is measured with.
    :ivar large: allocated on the larger one.
    :ivar overwritten: by the guest, while the temporary files are watched.
    :ivar read: of the disk that reading over NBD is measured with.
    :ivar freezes: snapshots with a freeze, for each of two disks.
    :ivar idle: seconds for which an idle host is watched.
    """

    rounds: int = 5
    random: int = 1024
    tree: int = 2222
    small_tree: int = 1024
    allocated: int = 1024
    large: int = 20 << 10
    overwritten: int = 64
    read: int = 1024
    freezes: int = 20
    extents: int = 40_000
    idle: float = 8.0

    @classmethod
    def quick(cls, rounds: int = 1) -> Plan:
        """Small enough to see within two minutes that all of it works; its figures say nothing."""
        return cls(
            rounds=rounds,
            random=64,
            tree=128,
            small_tree=64,
            allocated=64,
            large=512,
            overwritten=8,
            read=64,
            freezes=2,
            extents=2000,
            idle=1.0,
        )


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median of the ratios of the rounds: the two sides of a round met the same load."""
    return statistics.median(a / b for a, b in zip(ours, theirs, strict=True))


def compared(
    name: str,
    title: str,
    ours: Sequence[float],
    theirs: Sequence[float],
    most: float | None,
    unit: str = "s",
) -> Figure:
    """A figure that is a ratio.

    :param ours: by round, the smaller the better.
    :param theirs: what it is held against.
    :param most: the most that the ratio may be; ``None`` where it is only reported.
    """
    found = ratio(ours, theirs)
    mine, other = statistics.median(ours), statistics.median(theirs)
    return Figure(
        name,
        title,
        f"{found:.2f} ({mine:.2f} {unit} : {other:.2f} {unit})",
        "" if most is None else f"at most {most:.2f}",
        None if most is None else found <= most,
        {
            "ratio": round(found, 3),
            "ours": [round(value, 3) for value in ours],
            "theirs": [round(value, 3) for value in theirs],
        },
    )


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that ``percent`` of all values do not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]
