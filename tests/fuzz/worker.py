# SPDX-License-Identifier: Apache-2.0
"""``python -m tests.fuzz.worker``: one target in a process of its own, which may be lost."""

import argparse
import contextlib
import importlib
import logging
import resource
import shutil
import sys
import tempfile
from pathlib import Path

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from tests.fuzz import engines, targets
from tests.fuzz.recorder import Recorder, unpack

MEMORY = 3 << 30
"""Bytes of address space, of which some hundred MiB are used."""


def main() -> int:
    """:returns: 0; what was found is in the directory.

    :raises Exception: that of a target which finds something when it is closed.
    """
    parser = argparse.ArgumentParser(prog="tests.fuzz.worker")
    parser.add_argument("target", choices=targets.NAMES)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--engine", choices=("outcome", "coverage"), default="outcome")
    parser.add_argument("--replay", type=Path, help="run what this file has, and nothing else")
    options = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # Targets look at the log for themselves.
    logging.lastResort = None
    files = Path(tempfile.mkdtemp(prefix="ns-fuzz-", dir=_fast()))
    try:
        with _traced(options.engine):
            target = targets.make(options.target, files)
        if options.replay is not None:
            for data in unpack(options.replay.read_bytes()):
                target.run(data)
            target.close()
            return 0
        recorder = Recorder(target, options.directory)
        if options.engine == "coverage":
            engines.by_coverage(target, recorder, options.seconds, options.seed, options.directory)
        else:
            engines.by_outcome(target, recorder, options.seconds, options.seed)
        target.close()
        return 0
    finally:
        shutil.rmtree(files, ignore_errors=True)


def _fast() -> str | None:
    """Where files cost the least."""
    memory = Path("/dev/shm")
    return str(memory) if memory.is_dir() else None


def _traced(engine: str) -> contextlib.AbstractContextManager[object]:
    """What is imported meanwhile tells which of its lines are reached."""
    if engine != "coverage":
        return contextlib.nullcontext()
    instrumented: contextlib.AbstractContextManager[object] = importlib.import_module(
        "atheris"
    ).instrument_imports(include=["nova_snap"], enable_loader_override=False)
    return instrumented


if __name__ == "__main__":
    sys.exit(main())
