# SPDX-License-Identifier: Apache-2.0
"""What the command lines of those that kill have in common."""

from __future__ import annotations

import argparse
import functools
import random
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

say = functools.partial(print, flush=True)


def parser(module: str, description: str) -> argparse.ArgumentParser:
    """The options that all of them have."""
    made = argparse.ArgumentParser(prog=module, description=description)
    made.add_argument("--seed", type=int, help="of all choices; a new one if it is not given")
    made.add_argument("--keep", type=Path, help="a directory for logs that stays")
    return made


def carry_out(options: argparse.Namespace, kill: Callable[[int, Path], bool]) -> int:
    """Kill, in a directory that stays if something was lost.

    :param kill: is told the seed and the directory; returns whether nothing was lost.
    :returns: the exit code: 0 if nothing was lost, 1 otherwise.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    seed = random.SystemRandom().randrange(10**6) if options.seed is None else options.seed
    say(f"seed {seed}")
    directory = options.keep or Path(tempfile.mkdtemp(prefix="ns-kills-"))
    directory.mkdir(parents=True, exist_ok=True)
    good = kill(seed, directory)
    if not good:
        say(f"The logs are in {directory}")
    elif not options.keep:
        shutil.rmtree(directory)
    return 0 if good else 1
