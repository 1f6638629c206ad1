# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.tempest``: starts a cloud, runs all of Tempest that is in scope, ends it."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from pathlib import Path

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from tests.fixtures.cloud import Cloud
from tests.tempest import lists
from tests.tempest.config import write_config
from tests.tempest.run import Tempest


def main() -> int:
    """:returns: 0 if the tests of ``passing.txt`` have passed, and no other has run."""
    parser = argparse.ArgumentParser(
        prog="tests.tempest", description="Tempest's tests that are about what nova_snap does."
    )
    parser.add_argument("tests", nargs="*", help="run these only; full names, see passing.txt")
    parser.add_argument("--short", action="store_true", help="run those of short.txt only")
    parser.add_argument("--list", action="store_true", help="run nothing, list what would run")
    parser.add_argument("--concurrency", type=int, default=2, help="classes at a time (2)")
    parser.add_argument("--keep", type=Path, help="a directory for logs that stays")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with tempfile.TemporaryDirectory(prefix="ns-tempest-") as temporary:
        directory = options.keep or Path(temporary)
        with Cloud(directory / "cloud") as cloud:
            (directory / "tempest").mkdir(parents=True, exist_ok=True)
            config = directory / "tempest/tempest.conf"
            write_config(config, cloud)
            return _run(Tempest(config), options)


def _run(tempest: Tempest, options: argparse.Namespace) -> int:
    if options.list:
        print("\n".join(tempest.discover()))
        return 0
    names = options.tests or (list(lists.entries(lists.SHORT)) if options.short else [])
    if names:
        results = tempest.run_only(names, options.concurrency)
        verdict = lists.Verdict.of(results, names)
    else:
        results = tempest.run_all(options.concurrency)
        verdict = lists.Verdict.of(results, lists.entries(lists.PASSING))
    print(verdict)
    return 0 if verdict.good else 1


if __name__ == "__main__":
    sys.exit(main())
