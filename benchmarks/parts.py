# SPDX-License-Identifier: Apache-2.0
"""Two parts of the way alone: reading over NBD, and the map of a fragmented disk."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks import fragmented_map, nbd_read
from benchmarks.content import MIB
from benchmarks.figures import Figure, Plan, compared
from benchmarks.laboratory import Laboratory
from nova_snap.stream import nbd

SERVERS = {"qemu-nbd": "qemu-nbd", "qemu": "QEMU's export"}
MAP_SECONDS = 2.0
# Four times as many extents; without a quadratic step they take four times as long, and some noise.
MOST_TIMES = 6.0


def reading(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """Our client against nbdcopy, on the same export of a disk that is all data."""
    options = argparse.Namespace(runs=plan.rounds, piece_size=nbd.PIECE_SIZE >> 10, depth=nbd.DEPTH)
    with tempfile.TemporaryDirectory(dir=laboratory.directory) as directory:
        disk = Path(directory) / "disk"
        nbd_read.make_disk(disk, plan.read * MIB)
        for name, (command, socket) in nbd_read.servers(disk).items():
            with nbd_read.served(command, socket) as path:
                ours, theirs = nbd_read.compare(path, options)
            yield compared(
                f"nbd_read_{name.replace('-', '_')}",
                f"reading from {SERVERS[name]} : nbdcopy to null",
                [cost.wall for cost in ours],
                [cost.wall for cost in theirs],
                1.0,
            )


def fragmented(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """Map, layout and tables of a disk with very many extents, and with four times as many."""
    with tempfile.TemporaryDirectory(dir=laboratory.directory) as directory:
        found, more = (
            fragmented_map.medians(Path(directory), plan.extents * factor, plan.rounds)
            for factor in (1, 4)
        )
    times = more["total"] / found["total"]
    yield Figure(
        "fragmented_map",
        f"map, layout and tables of {plan.extents:,} extents",
        f"{found['total']:.2f} s; four times as many take {times:.1f} times as long",
        "under 2 s, no quadratic step",
        found["total"] < MAP_SECONDS and times < MOST_TIMES,
        {"seconds": round(found["total"], 3), "four_times_as_many": round(times, 2)},
    )
