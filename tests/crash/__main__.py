# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.crash``: kills the service again and again, and prints what survived."""

from __future__ import annotations

import argparse
import functools
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from tests.crash.matrix import Matrix, table
from tests.crash.scenarios import SCENARIOS
from tests.crash.world import World
from tests.outages import rounds
from tests.outages.runner import VICTIMS

say = functools.partial(print, flush=True)


def main() -> int:
    """:returns: 0 if nothing was lost, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="tests.crash",
        description="Kills the service at every boundary of a snapshot, and at random moments.",
    )
    parser.add_argument("--kills", type=int, default=20, help="how many have to hit (20)")
    parser.add_argument("--seed", type=int, help="of all choices; a new one if it is not given")
    parser.add_argument(
        "--scenario", action="append", choices=SCENARIOS, help="only this one; may be repeated"
    )
    parser.add_argument(
        "--outages",
        type=int,
        help="how often to kill each of what snapshots need, such as RabbitMQ, after that: see "
        "tests.outages (a tenth of --kills; with --scenario, none)",
    )
    parser.add_argument("--keep", type=Path, help="a directory for logs that stays")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    say(f"seed {seed}")
    began = time.monotonic()
    chosen = [SCENARIOS[name] for name in options.scenario or SCENARIOS]
    directory = options.keep or Path(tempfile.mkdtemp(prefix="ns-crash-"))
    directory.mkdir(parents=True, exist_ok=True)
    with World(directory) as world:
        matrix = Matrix(world, seed, say)
        matrix.run(chosen, options.kills)
    say(f"\n{table(matrix)}\n")
    hits = sum(kill.hit for kill in matrix.kills)
    say(
        f"seed {seed}: {hits} kills in {time.monotonic() - began:.0f} s, {len(matrix.lost)} with "
        f"losses; {matrix.snapshots} whole snapshots between them"
    )
    good = not matrix.lost and hits >= options.kills
    outages = options.outages
    if outages is None:
        outages = 0 if options.scenario else options.kills // 10
    if outages:
        good &= rounds.run(list(VICTIMS), outages, seed, directory / "outages", say)
    if not options.keep and good:
        shutil.rmtree(directory)
    elif not good:
        say(f"The logs are in {directory}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
