# SPDX-License-Identifier: Apache-2.0
"""How a program ends that was started here, or does not.

The kernel kills a program only when it comes back from what it waits for: one that waits for a
disk, or a network file system, that does not answer stays. Whoever waits for it then keeps its
place among the snapshots for ever.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from oslo_log import log as logging

LOG = logging.getLogger(__name__)

KILL_SECONDS: Final = 10.0
"""How long the kernel has to end what was killed."""


def end(process: subprocess.Popen[Any], what: str, seconds: float = 0.0) -> bool:
    """Have a program end, at the latest :data:`KILL_SECONDS` after ``seconds``.

    :param what: what to call it in the log.
    :param seconds: how long it may take to end by itself after it was asked to; 0 is not to ask.
    :returns: whether it has ended. That it has not is logged with its process id.
    """
    if process.poll() is not None:
        return True
    if seconds:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=seconds)
            return True
        LOG.warning("%s (pid %d) does not end, and is killed", what, process.pid)
    process.kill()
    try:
        process.wait(timeout=KILL_SECONDS)
    except subprocess.TimeoutExpired:
        LOG.error(
            "%s (pid %d) was killed and has not ended within %g s: it waits for something in the "
            "kernel, a disk that does not answer for example, and is left",
            what,
            process.pid,
            KILL_SECONDS,
        )
        return False
    return True


@contextlib.contextmanager
def ended(process: subprocess.Popen[Any], what: str, seconds: float = 0.0) -> Iterator[None]:
    """A program has ended after the block, or is left, and its pipes are closed: see :func:`end`.

    What ``with process`` would do waits without a bound.
    """
    try:
        yield
    finally:
        end(process, what, seconds)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def run(
    words: Sequence[str], seconds: float, env: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """A short command and what it says, at the latest :data:`KILL_SECONDS` after ``seconds``.

    What :func:`subprocess.run` would do waits without a bound for what it has killed.

    :raises OSError: if it cannot be started.
    :raises subprocess.TimeoutExpired: if it was not done in time.
    """
    process = subprocess.Popen(
        words,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        errors="replace",
        env=env,
    )
    with ended(process, os.path.basename(words[0])):
        stdout, stderr = process.communicate(timeout=seconds)
    return subprocess.CompletedProcess(words, process.returncode, stdout, stderr)
