# SPDX-License-Identifier: Apache-2.0
"""Runs inputs, and keeps what was found with the least that shows it again."""

import dataclasses
import faulthandler
import hashlib
import json
import os
import resource
import time
import traceback
from collections.abc import Hashable
from pathlib import Path

from tests.fuzz.target import Finding, Target

MOST_FINDINGS = 20
_SHRINK_SECONDS = 5.0
_REPORT_SECONDS = 1.0
_OUTCOMES = 20_000
_SEVERAL = b"inputs, one after the other:\n"


@dataclasses.dataclass
class Found:
    """:ivar cause: the same for all inputs that are one finding.

    :ivar text: what happened, with the traceback.
    :ivar file: name of the file, below the directory for findings, that has the input; several
        inputs if it takes them, one after the other, to show it.
    """

    cause: str
    text: str
    file: str


class Recorder:
    """:param directory: where findings, and the input of the moment, are written."""

    def __init__(self, target: Target, directory: Path) -> None:
        self._target = target
        self._directory = directory
        self._current = os.open(directory / "current", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600)
        self._trace = (directory / "hang.txt").open("w")
        self._armed = 0.0
        self._reported = 0.0
        self._began = time.monotonic()
        self._since_renewal: list[bytes] = []
        self._outcomes: set[Hashable] = set()
        self.executions = 0
        self.findings: dict[str, Found] = {}

    def execute(self, data: bytes) -> bool:
        """:returns: whether this is worth to be changed further."""
        self._watch(data)
        self._renew_if_due()
        self.executions += self._target.each
        try:
            outcome = self._target.run(data)
        except Exception as error:
            self._found(data, error)
            return False
        finally:
            if self._target.renew_after:
                self._since_renewal.append(data)
        if outcome in self._outcomes or len(self._outcomes) > _OUTCOMES:
            return False
        self._outcomes.add(outcome)
        return True

    @property
    def full(self) -> bool:
        """Whether so much was found that no more is looked for."""
        return len(self.findings) >= MOST_FINDINGS

    def _watch(self, data: bytes) -> None:
        """Note what is run, for the case that this process does not survive it."""
        os.ftruncate(self._current, 0)
        os.pwrite(self._current, data, 0)
        now = time.monotonic()
        # Not each time: it starts a thread, which needs no GIL to see that nothing goes on.
        if now - self._armed > _REPORT_SECONDS:
            self._armed = now
            faulthandler.dump_traceback_later(
                self._target.bound + _REPORT_SECONDS, exit=True, file=self._trace
            )
            self.report()

    def report(self, ended: bool = False) -> None:
        """Write down how far it is."""
        written = self._directory / "result.json.new"
        found = [dataclasses.asdict(each) for each in self.findings.values()]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        values = {
            "executions": self.executions,
            "seconds": time.monotonic() - self._began,
            "outcomes": len(self._outcomes),
            "peak_mib": peak,
            "findings": found,
            "ended": ended,
        }
        written.write_text(json.dumps(values))
        written.rename(self._directory / "result.json")
        if ended:
            faulthandler.cancel_dump_traceback_later()

    # -- what was found --------------------------------------------------------------------

    def _renew_if_due(self) -> None:
        due = self._target.renew_after
        if due and len(self._since_renewal) >= due:
            self._target.renew()
            self._since_renewal.clear()

    def _found(self, data: bytes, error: Exception) -> None:
        cause = cause_of(error)
        if cause in self.findings or self.full:
            return
        needed = [data]
        if self._target.renew_after and not self._shows(needed, cause):
            needed = [*self._since_renewal, data]
        elif len(needed) == 1:
            needed = [self._shrunk(data, cause)]
        text = "".join(traceback.format_exception(error))
        name = f"{hashlib.sha256(cause.encode()).hexdigest()[:12]}.input"
        (self._directory / name).write_bytes(pack(needed))
        self.findings[cause] = Found(cause, text, name)
        self._armed = 0.0
        self.report()

    def _shows(self, inputs: list[bytes], cause: str) -> bool:
        """Whether they, from a fresh state, end in the same."""
        if self._target.renew_after:
            self._target.renew()
            self._since_renewal.clear()
        for data in inputs:
            self._armed = 0.0
            self._watch(data)
            try:
                self._target.run(data)
            except Exception as error:
                if cause_of(error) == cause:
                    return True
        return False

    def _shrunk(self, data: bytes, cause: str) -> bytes:
        """Less that shows the same, as far as that is quickly found."""
        until = time.monotonic() + _SHRINK_SECONDS
        step = len(data) // 2
        while step and time.monotonic() < until:
            at = 0
            while at < len(data) and time.monotonic() < until:
                less = data[:at] + data[at + step :]
                if self._shows([less], cause):
                    data = less
                else:
                    at += step
            step //= 2
        return data


def cause_of(error: BaseException) -> str:
    """The kind of an error, and where in the product it came from."""
    what = error.what if isinstance(error, Finding) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "nova_snap" in Path(frame.filename).parts]
    if not own:
        return what
    return f"{what} in {Path(own[-1].filename).name}:{own[-1].lineno} {own[-1].name}"


def pack(inputs: list[bytes]) -> bytes:
    """One input as it is; several with their lengths in front."""
    if len(inputs) == 1:
        return inputs[0]
    return _SEVERAL + b"".join(b"%d\n%s" % (len(data), data) for data in inputs)


def unpack(stored: bytes) -> list[bytes]:
    """What :func:`pack` was given."""
    if not stored.startswith(_SEVERAL):
        return [stored]
    inputs = []
    left = stored.removeprefix(_SEVERAL)
    while left:
        length, _, left = left.partition(b"\n")
        inputs.append(left[: int(length)])
        left = left[int(length) :]
    return inputs
