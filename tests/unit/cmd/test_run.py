# SPDX-License-Identifier: Apache-2.0
"""A stop has its bound, whatever hangs and whoever takes his time."""

import subprocess
import sys
import time
from typing import Any

import pytest

from nova_snap.cmd.all import stop_both

SCRIPT = """
import sys, threading, time
from nova_snap.cmd import run
run.STOP_SECONDS = float(sys.argv[2])
threading.Thread(target=time.sleep, args=(float(sys.argv[3]),)).start()
run.exit_within(float(sys.argv[1]))
"""


@pytest.mark.parametrize(
    ("grace", "slack", "hangs", "code"),
    [(0.2, 0.2, 600, 1), (30, 30, 0.5, 0)],
    ids=["a thread that does not end", "all in time"],
)
def test_the_process_ends(grace: float, slack: float, hangs: float, code: int) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *map(str, (grace, slack, hangs))], timeout=300
    )
    assert done.returncode == code
    assert min(grace + slack, hangs) <= time.monotonic() - began < 60


class Slow:
    """A part that takes its time, and all that it is granted."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.granted: float | None = None

    def stop(self, timeout: float | None = None) -> int:
        self.granted = timeout
        time.sleep(self._seconds)
        # What the one has left, and that the other has ended.
        return 3


@pytest.mark.parametrize(("takes", "at_most"), [(0.5, 9.5), (0.0, 10.0)])
def test_api_and_compute_host_share_the_time(takes: float, at_most: float) -> None:
    server: Any = Slow(takes)
    service: Any = Slow(0)
    assert stop_both(server, service, 10) == 3
    assert 0 < service.granted <= at_most


def test_an_api_that_hangs_takes_nothing_from_what_runs() -> None:
    """Snapshots would be cancelled at once for a request that waits for something else."""
    server: Any = Slow(3)
    service: Any = Slow(0)
    stop_both(server, service, 4)
    # Half of it, less what a machine does meanwhile that is busy.
    assert 0.5 < service.granted <= 2
