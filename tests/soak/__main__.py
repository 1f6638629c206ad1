# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.soak``: hundreds of snapshots in a row, and a table of what has grown."""

from __future__ import annotations

import argparse
import contextlib
import functools
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from tests.fixtures.service_process import ServiceProcess
from tests.fixtures.warden import Warden
from tests.soak import flat
from tests.soak.endurance import Endurance
from tests.soak.world import World

say = functools.partial(print, flush=True)


def main() -> int:
    """:returns: 0 if all snapshots were good and nothing has grown, 1 otherwise."""
    parser = argparse.ArgumentParser(
        prog="tests.soak",
        description="Takes real snapshots of all kinds, one after the other, by one process, and "
        "fails if anything of it, of its guests or of the host grows.",
    )
    parser.add_argument("--snapshots", type=int, default=300, help="how many (300)")
    parser.add_argument("--seed", type=int, help="of their order; a new one if it is not given")
    parser.add_argument("--keep", type=Path, help="a directory for samples and logs that stays")
    options = parser.parse_args()
    try:
        flat.windows(options.snapshots)
    except flat.TooShort as exc:
        parser.error(str(exc))
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    ServiceProcess.warden = Warden()
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    say(f"seed {seed}")
    began = time.monotonic()
    directory = options.keep or Path(tempfile.mkdtemp(prefix="ns-soak-"))
    directory.mkdir(parents=True, exist_ok=True)
    whole = False
    with World(directory) as world:
        endurance = Endurance(world, seed, say)
        # What there is by then says something, too.
        with contextlib.suppress(KeyboardInterrupt):
            endurance.run(options.snapshots)
            whole = True
    good = _report(endurance, seed, time.monotonic() - began) and whole
    if not options.keep and good:
        shutil.rmtree(directory)
    else:
        say(f"The samples are in {directory / 'samples.jsonl'}, the logs beside it")
    return 0 if good else 1


def _report(endurance: Endurance, seed: int, seconds: float) -> bool:
    count = len(endurance.samples)
    try:
        verdicts = endurance.verdicts()
    except flat.TooShort as exc:
        say(str(exc))
        return False
    say(f"\n{flat.table(verdicts, count)}\n")
    grown = [verdict for verdict in verdicts if verdict.problem]
    for verdict in grown:
        say(f"{verdict.rule.title}: {verdict.problem}")
        if verdict.rule.name == "threads":
            early, _late = flat.windows(count)
            more = Counter(endurance.threads[-1]) - Counter(endurance.threads[early.start])
            say(f"  more than after the warm-up: {', '.join(more.elements())}")
    bad = [each for each in endurance.taken if each.problems]
    median = statistics.median(each.seconds for each in endurance.taken)
    say(
        f"seed {seed}: {count} snapshots in {seconds:.0f} s, {median:.1f} s each (median), "
        f"{len(bad)} not as they must be; {len(grown)} of {len(verdicts)} series grow"
    )
    return not grown and not bad


if __name__ == "__main__":
    sys.exit(main())
