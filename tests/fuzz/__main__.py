# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.fuzz``: each target for its share of the time, and what was found."""

import argparse
import functools
import random
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz import targets
from tests.fuzz.campaign import Campaign, Summary

say = functools.partial(print, flush=True)


def main() -> int:
    """:returns: 0 if nothing was found and every target has run, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="tests.fuzz",
        description="Gives the product's parsers, its API, its messages and its clients input "
        "that nobody should send. A finding is a hang, a 500, an error that is not documented, "
        "a traceback without a request id, memory without a bound.",
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="for all targets together (2)")
    parser.add_argument("--seed", type=int, help="of all choices; a new one if it is not given")
    parser.add_argument(
        "--target", action="append", choices=targets.NAMES, help="only this one; may be repeated"
    )
    parser.add_argument("--keep", type=Path, help="a directory for what is found, and for logs")
    parser.add_argument(
        "--replay", type=Path, metavar="FILE", help="run a finding's input with the one --target"
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = options.target or list(targets.NAMES)
    directory = options.keep or Path(tempfile.mkdtemp(prefix="ns-fuzz-found-"))
    directory.mkdir(parents=True, exist_ok=True)
    if options.replay is not None:
        if len(names) != 1:
            parser.error("--replay needs exactly one --target")
        return _replay(names[0], options.replay, directory)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    seconds = options.minutes * 60 / len(names)
    say(f"seed {seed}, {seconds:.0f} s for each of {len(names)} targets")
    say(Summary.HEAD)
    summaries = []
    for name in names:
        summary = Campaign(name, seed, directory / name).run(seconds)
        say(summary.line())
        summaries.append(summary)
    findings = [(each.name, found) for each in summaries for found in each.findings]
    for name, found in findings:
        say(f"\n--- {name}: {found['cause']}\n{found['text'].rstrip()}")
        say(
            f"To see it again: python -m tests.fuzz --target {name} "
            f"--replay {directory / name / found['file']}"
        )
    executions = sum(each.executions for each in summaries)
    say(f"\nseed {seed}: {executions} executions, {len(findings)} findings")
    # What finds nothing because it does nothing is not good.
    idle = [each.name for each in summaries if not each.executions]
    if idle:
        say(f"No input was given to: {', '.join(idle)}")
    return 1 if findings or idle else 0


def _replay(name: str, file: Path, directory: Path) -> int:
    arguments = [name, "--directory", str(directory), "--replay", str(file)]
    return subprocess.call([sys.executable, "-m", "tests.fuzz.worker", *arguments])


if __name__ == "__main__":
    sys.exit(main())
