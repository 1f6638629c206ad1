# SPDX-License-Identifier: Apache-2.0
"""Where inputs come from: seeds that are changed again and again.

``by_outcome`` keeps what ended in a new way. ``by_coverage`` hands the choice to libFuzzer
(Atheris), which sees the lines that an input reaches; it is for pure code, where it is installed.
"""

import importlib.util
import os
import random
import sys
import time
from pathlib import Path

from tests.fuzz.recorder import Recorder
from tests.fuzz.target import Target

_RECENT = 50
_MOST = 4000
_LONGEST = 1 << 16
_LARGEST = 1 << 24


def coverage_is_there() -> bool:
    """Whether Atheris is installed."""
    return importlib.util.find_spec("atheris") is not None


def _another(target: Target, data: bytes, other: bytes, dice: random.Random) -> bytes:
    """Another input; the same again where one is too deep or too large for whoever changes it."""
    try:
        changed = target.mutate(data, other, dice)
    except (MemoryError, RecursionError, ValueError):
        return data
    # Lists of copies of lists: more than that is no input that a bound of ours lets in.
    return changed if len(changed) < _LARGEST else data


def by_outcome(target: Target, recorder: Recorder, seconds: float, seed: int) -> None:
    """Run for ``seconds``, or until there is too much to tell."""
    until = time.monotonic() + seconds
    dice = random.Random(seed)
    corpus = list(target.seeds())
    # In another order each time: a short run does not come to all of them.
    for data in dice.sample(corpus, len(corpus)):
        if time.monotonic() < until:
            recorder.execute(data)
    while time.monotonic() < until and not recorder.full:
        recent = corpus[-_RECENT:] if dice.random() < 0.5 else corpus
        data = _another(target, dice.choice(recent), dice.choice(corpus), dice)
        # Long ones are run once: they cost too much to be changed further.
        if recorder.execute(data) and len(corpus) < _MOST and len(data) < _LONGEST:
            corpus.append(data)
    recorder.report(ended=True)


def by_coverage(
    target: Target, recorder: Recorder, seconds: float, seed: int, directory: Path
) -> None:
    """The same with Atheris. It ends the process."""
    import atheris

    until = time.monotonic() + seconds
    corpus = directory / "corpus"
    corpus.mkdir(exist_ok=True)
    seeds = list(target.seeds())
    for number, data in enumerate(seeds):
        recorder.execute(data)
        (corpus / f"seed-{number:03}").write_bytes(data)

    def run(data: bytes) -> None:
        recorder.execute(data)
        if time.monotonic() >= until or recorder.full:
            recorder.report(ended=True)
            os._exit(0)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        dice = random.Random(seed)
        if dice.random() < 0.3:
            return bytes(atheris.Mutate(data, max_size))
        return _another(target, data, dice.choice(seeds), dice)[:max_size]

    arguments = [
        sys.argv[0],
        str(corpus),
        f"-seed={seed % (1 << 31) or 1}",
        f"-max_len={_LONGEST}",
        # The recorder watches time, and the worker bounds memory.
        "-timeout=3600",
        "-rss_limit_mb=0",
        "-verbosity=0",
        f"-artifact_prefix={directory}/",
    ]
    atheris.Setup(arguments, run, custom_mutator=mutate)
    atheris.Fuzz()
