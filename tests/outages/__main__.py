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
from pathlib import Path

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from tests.outages import rounds
from tests.outages.runner import VICTIMS

say = functools.partial(print, flush=True)


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
    good = rounds.run(options.victim or list(VICTIMS), options.kills, seed, directory, say)
    if not options.keep and good:
        shutil.rmtree(directory)
    elif not good:
        say(f"The logs are in {directory}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
