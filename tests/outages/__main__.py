# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.outages``: kills what snapshots need, and prints what survived."""

from __future__ import annotations

import argparse
import functools
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from tests.outages.runner import VICTIMS, Runner, table

say = functools.partial(print, flush=True)


def run(victims: Sequence[str], kills: int, seed: int, directory: Path) -> bool:
    """Kill each victim so often.

    :param directory: for logs.
    :returns: whether nothing was lost.
    """
    began = time.monotonic()
    good = True
    for number, make in enumerate(dict.fromkeys(VICTIMS[name].world for name in victims)):
        place = directory / f"world-{number}"
        place.mkdir(parents=True)
        with make(place) as world:
            runner = Runner(world, seed, say)
            runner.prepare()
            for name in victims:
                if VICTIMS[name].world is make:
                    runner.run(name, kills)
            world.stop()
        hits = sum(kill.hit for kill in runner.kills)
        wanted = kills * sum(VICTIMS[name].world is make for name in victims)
        say(f"\n{table(runner)}\n")
        say(
            f"seed {seed}: {hits} kills in {time.monotonic() - began:.0f} s, "
            f"{len(runner.lost)} with losses; {runner.snapshots} whole snapshots between them"
        )
        good = good and not runner.lost and hits >= wanted
    return good


def main() -> int:
    """:returns: 0 if nothing was lost, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="tests.outages",
        description="Kills what snapshots need in the middle of them, and starts it again.",
    )
    parser.add_argument("--kills", type=int, default=5, help="of each victim (5)")
    parser.add_argument("--seed", type=int, help="of all choices; a new one if it is not given")
    parser.add_argument(
        "--victim", action="append", choices=VICTIMS, help="only this one; may be repeated"
    )
    parser.add_argument("--keep", type=Path, help="a directory for logs that stays")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    say(f"seed {seed}")
    directory = options.keep or Path(tempfile.mkdtemp(prefix="ns-outages-"))
    good = run(options.victim or list(VICTIMS), options.kills, seed, directory)
    if not options.keep and good:
        shutil.rmtree(directory)
    elif not good:
        say(f"The logs are in {directory}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
