# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.load``: prints a table and a line of JSON; 1 if anything does not hold."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import importlib.util
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from benchmarks import report
from tests.fixtures.service_process import ServiceProcess
from tests.fixtures.warden import Warden
from tests.load.figures import figures
from tests.load.installation import standalone
from tests.load.plan import Plan
from tests.load.run import run

GUESTS = "tests.load.real_guests"

say = functools.partial(print, flush=True)


def main() -> int:
    """:returns: 0 if all held."""
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ServiceProcess.warden = Warden()
    plan = _plan(options)
    directory = options.keep or Path(tempfile.mkdtemp(prefix="ns-load-"))
    # RabbitMQ and MariaDB have directories of their own; Glance runs as whoever runs this.
    directory.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    with standalone(directory, plan) as installation:
        say(f"{plan.instances} instances on two hosts, after {time.monotonic() - began:.0f} s")
        judged = run(installation, say)
    found = figures(plan, judged)
    say(f"\n{report.table(found)}\n")
    if not plan.crowded:
        say("Too few instances to see whether projects take turns: that is not judged.")
    guests = 0 if options.no_guests else _real_guests()
    good = all(figure.reached for figure in found) and guests == 0
    if options.write:
        report.write("load", report.markdown(found, f"{plan.rounds} bursts"))
    say(report.line(found, plan.rounds, time.monotonic() - began))
    if good and not options.keep:
        shutil.rmtree(directory)
    elif not good:
        say(f"The logs are in {directory}")
    return 0 if good else 1


def _plan(options: argparse.Namespace) -> Plan:
    given = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(Plan)}
    return Plan(**{name: value for name, value in given.items() if value is not None})


def _real_guests() -> int:
    """Guests of QEMU snapshotted at once; 0 if that went well."""
    if importlib.util.find_spec(GUESTS) is None:
        return 0
    found: int = importlib.import_module(GUESTS).run(say)
    return found


def _options() -> argparse.Namespace:
    default = Plan()
    parser = argparse.ArgumentParser(
        prog="tests.load",
        description="Hundreds of createImages at once: all answered, none lost, none doubled.",
    )
    parser.add_argument("--instances", type=int, help=f"on two hosts ({default.instances})")
    parser.add_argument("--requests", type=int, help=f"at the same moment ({default.requests})")
    parser.add_argument("--rounds", type=int, help=f"of that ({default.rounds})")
    parser.add_argument(
        "--delay", type=float, help=f"seconds of each phase of a snapshot ({default.delay:g})"
    )
    parser.add_argument("--keep", type=Path, help="a directory for logs that stays")
    parser.add_argument("--no-guests", action="store_true", help="without QEMU's guests")
    parser.add_argument(
        "--write", action="store_true", help=f"put the table into {report.DOCUMENT.name}"
    )
    options = parser.parse_args()
    try:
        _plan(options)
    except ValueError as error:
        parser.error(str(error))
    if options.write and _plan(options) != dataclasses.replace(
        default, rounds=_plan(options).rounds
    ):
        parser.error("--write needs a whole run: --rounds is all that may differ")
    return options


if __name__ == "__main__":
    sys.exit(main())
