# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.outages``: kills what snapshots need, and prints what survived."""

from __future__ import annotations

import sys
from pathlib import Path

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from tests.crash import command_line
from tests.crash.command_line import say
from tests.outages import rounds
from tests.outages.kinds import VICTIMS


def main() -> int:
    """:returns: 0 if nothing was lost, 1 otherwise."""
    parser = command_line.parser(
        "tests.outages", "Kills what snapshots need in the middle of them, and starts it again."
    )
    parser.add_argument("--kills", type=int, default=5, help="of each victim (5)")
    parser.add_argument(
        "--victim", action="append", choices=VICTIMS, help="only this one; may be repeated"
    )
    options = parser.parse_args()

    def kill(seed: int, directory: Path) -> bool:
        return rounds.run(options.victim or list(VICTIMS), options.kills, seed, directory, say)

    return command_line.carry_out(options, kill)


if __name__ == "__main__":
    sys.exit(main())
