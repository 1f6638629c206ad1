# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.crash``: kills the service again and again, and prints what survived."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from tests.crash import command_line
from tests.crash.command_line import say
from tests.crash.matrix import Matrix
from tests.crash.report import table
from tests.crash.scenarios import SCENARIOS
from tests.crash.world import World
from tests.outages import rounds
from tests.outages.kinds import VICTIMS

# From so many kills on it is a run that is to leave nothing out.
_LONG = 200


def main() -> int:
    """:returns: 0 if nothing was lost, 1 otherwise."""
    parser = command_line.parser(
        "tests.crash", "Kills the service at every boundary of a snapshot, and at random moments."
    )
    parser.add_argument("--kills", type=int, default=20, help="how many have to hit (20)")
    parser.add_argument(
        "--scenario", action="append", choices=SCENARIOS, help="only this one; may be repeated"
    )
    parser.add_argument(
        "--everywhere",
        action=argparse.BooleanOptionalAction,
        help="go on until every method was killed at every one of its steps (with 200 kills or "
        "more, yes)",
    )
    parser.add_argument(
        "--outages",
        type=int,
        help="how often to kill each of what snapshots need, such as RabbitMQ, after that: see "
        "tests.outages (a tenth of --kills; with --scenario, none)",
    )
    options = parser.parse_args()

    def kill(seed: int, directory: Path) -> bool:
        good = _service(options, seed, directory)
        if outages := _outages(options):
            good &= rounds.run(list(VICTIMS), outages, seed, directory / "outages", say)
        return good

    return command_line.carry_out(options, kill)


def _outages(options: argparse.Namespace) -> int:
    if options.outages is not None:
        return int(options.outages)
    return 0 if options.scenario else options.kills // 10


def _service(options: argparse.Namespace, seed: int, directory: Path) -> bool:
    """Kill the service; whether nothing was lost."""
    began = time.monotonic()
    chosen = [SCENARIOS[name] for name in options.scenario or SCENARIOS]
    everywhere = options.kills >= _LONG if options.everywhere is None else options.everywhere
    with World(directory) as world:
        matrix = Matrix(world, seed, say)
        matrix.run(chosen, options.kills, everywhere=everywhere)
    say(f"\n{table(matrix, chosen)}\n")
    hits = sum(kill.hit for kill in matrix.kills)
    say(
        f"seed {seed}: {hits} kills in {time.monotonic() - began:.0f} s, {len(matrix.lost)} with "
        f"losses; {matrix.snapshots} whole snapshots between them"
    )
    missed = everywhere and any(matrix.missed(scenario.method) for scenario in chosen)
    return not matrix.lost and not missed and hits >= options.kills


if __name__ == "__main__":
    sys.exit(main())
