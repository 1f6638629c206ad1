# SPDX-License-Identifier: Apache-2.0
"""All figures: a table, then one line of JSON.

``tox -e bench`` takes some 25 minutes and up to 12 GiB below ``--directory``, which are given back.
The exit code is 1 if a figure could not be measured or does not reach what it is to reach.
"""

from __future__ import annotations

import nova_snap.cmd  # noqa: F401 - chooses the backend of oslo.service  # isort: skip

import argparse
import dataclasses
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

from benchmarks import latency, memory, moments, parts, report, speed
from benchmarks.figures import Figure, Plan
from benchmarks.laboratory import Laboratory

ROOM = 12 << 30
ROOM_QUICK = 3 << 30

Group = Callable[[Laboratory, Plan], Iterator[Figure]]
GROUPS: dict[str, Group] = {
    "incompressible": speed.incompressible,
    "incompressible-backing": speed.incompressible_backing,
    "operating-system": speed.operating_system,
    "operating-system-small": speed.operating_system_small,
    "operating-system-backing": speed.operating_system_backing,
    "freeze": moments.freeze,
    "point-in-time": moments.point_in_time,
    "sparse": speed.sparse,
    "memory": memory.memory,
    "reading": parts.reading,
    "latency": latency.write_latency,
    "fragmented": parts.fragmented,
}


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, _interrupt)
    plan = Plan.quick(options.rounds or 1) if options.quick else Plan()
    if options.rounds and not options.quick:
        plan = dataclasses.replace(plan, rounds=options.rounds)
    began = time.monotonic()
    directory = Path(tempfile.mkdtemp(prefix="nsb-", dir=options.directory))
    # QEMU and Glance run as this user, or as one who has to get through.
    directory.chmod(0o755)
    try:
        with Laboratory(directory) as laboratory:
            figures, failed = _measure(laboratory, plan, options.only or list(GROUPS))
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    print(report.table(figures, judged=not options.quick))
    if options.write and not failed:
        report.write("bench", report.markdown(figures, f"medians of {plan.rounds} rounds"))
    print(report.line(figures, plan.rounds, time.monotonic() - began), flush=True)
    missed = not options.quick and any(figure.reached is False for figure in figures)
    return 1 if failed or missed else 0


def _measure(
    laboratory: Laboratory, plan: Plan, names: list[str]
) -> tuple[list[Figure], list[str]]:
    """:returns: what was found, and the groups that could not be measured."""
    figures: list[Figure] = []
    failed = []
    for name in names:
        began = time.monotonic()
        print(f"{name} ...", file=sys.stderr, end=" ", flush=True)
        try:
            figures += GROUPS[name](laboratory, plan)
        except Exception:
            failed.append(name)
            print(f"\n{traceback.format_exc()}", file=sys.stderr)
            figures.append(Figure(name, name, "could not be measured", reached=False))
        print(f"{time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    return figures, failed


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, help="of each comparison; default 5, quick 1")
    parser.add_argument("--quick", action="store_true", help="small sizes: does all of it work?")
    parser.add_argument("--only", action="append", choices=GROUPS, help="may be given again")
    parser.add_argument(
        "--directory",
        type=Path,
        default=Path(tempfile.gettempdir()),
        help="for temporary files; a short path",
    )
    parser.add_argument(
        "--write", action="store_true", help=f"put the table into {report.DOCUMENT.name}"
    )
    options = parser.parse_args()
    if options.rounds is not None and options.rounds < 1:
        parser.error("--rounds must be 1 or more")
    if options.write and (options.quick or options.only):
        parser.error("--write needs a whole run: neither --quick nor --only")
    free = shutil.disk_usage(options.directory).free
    needed = ROOM_QUICK if options.quick else ROOM
    if free < needed:
        parser.error(
            f"{options.directory} has {free >> 20} MiB of free space, and {needed >> 20} MiB are "
            "needed; name another place with --directory"
        )
    print(f"{free >> 30} GiB are free in {options.directory}", file=sys.stderr)
    return options


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
