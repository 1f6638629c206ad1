# SPDX-License-Identifier: Apache-2.0
"""One target's share: workers one after the other, until the time is over."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

from tests.fuzz import engines

# For a worker to start, and to end what runs.
_GRACE = 180.0
# A worker that is lost again and again has found enough.
_MOST_LOST = 5
_LEAST_SECONDS = 2.0
_GUIDED = ("domain", "qcow2", "tools")


@dataclasses.dataclass
class Summary:
    """What a target's share of the time came to.

    :ivar outcomes: in how many ways, as far as the target tells them apart, inputs ended.
    """

    HEAD: ClassVar[str] = "target      executions      /s  outcomes  peak MiB  findings"

    name: str
    executions: int = 0
    seconds: float = 0.0
    outcomes: int = 0
    peak_mib: int = 0
    findings: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def line(self) -> str:
        rate = self.executions / self.seconds if self.seconds else 0
        return (
            f"{self.name:10} {self.executions:11} {rate:7.0f} {self.outcomes:9} "
            f"{self.peak_mib:9} {len(self.findings):9}"
        )

    def add(self, result: dict[str, Any]) -> None:
        self.executions += result["executions"]
        self.seconds += result["seconds"]
        self.outcomes = max(self.outcomes, result["outcomes"])
        self.peak_mib = max(self.peak_mib, result["peak_mib"])
        known = {found["cause"] for found in self.findings}
        self.findings += [found for found in result["findings"] if found["cause"] not in known]


class Campaign:
    """:param directory: for logs and findings; it is made."""

    def __init__(self, name: str, seed: int, directory: Path) -> None:
        self._name = name
        self._seed = seed
        self._directory = directory
        directory.mkdir(parents=True, exist_ok=True)

    def run(self, seconds: float) -> Summary:
        summary = Summary(self._name)
        until = time.monotonic() + seconds
        lost = 0
        coverage = self._name in _GUIDED and engines.coverage_is_there()
        while lost < _MOST_LOST and (left := until - time.monotonic()) > min(
            _LEAST_SECONDS, seconds / 2
        ):
            # Half of the time each: they find different things.
            engine, share = ("coverage", left / 2) if coverage else ("outcome", left)
            result, code, end = self._work(engine, share, self._seed + lost)
            summary.add(result)
            # It may be through with its inputs, and find something when it puts its things away.
            if not result["ended"] or code != 0:
                lost += 1
                summary.findings.append(self._lost(end, lost))
            coverage = False
            if result["findings"] and len(result["findings"]) >= _MOST_LOST:
                break
        return summary

    def _work(
        self, engine: str, seconds: float, seed: int
    ) -> tuple[dict[str, Any], int | None, str]:
        """One worker's result, its exit code (``None`` if it did not end), and that in words."""
        code = None
        (self._directory / "result.json").unlink(missing_ok=True)
        arguments = [self._name, "--directory", str(self._directory), "--engine", engine]
        arguments += ["--seconds", str(seconds), "--seed", str(seed)]
        with (self._directory / "log.txt").open("ab") as log:
            worker = subprocess.Popen(
                [sys.executable, "-m", "tests.fuzz.worker", *arguments], stdout=log, stderr=log
            )
            try:
                code = worker.wait(seconds + _GRACE)
                end = f"the worker ended with {code}"
            except subprocess.TimeoutExpired:
                end = f"the worker did not end within {_GRACE:.0f} s of its time"
            finally:
                worker.kill()
                worker.wait()
        return self._result(), code, end

    def _result(self) -> dict[str, Any]:
        nothing = {"executions": 0, "seconds": 0.0, "outcomes": 0, "peak_mib": 0, "findings": []}
        try:
            found: dict[str, Any] = json.loads((self._directory / "result.json").read_text())
        except FileNotFoundError:
            found = {**nothing, "ended": False}
        return found

    def _lost(self, end: str, number: int) -> dict[str, Any]:
        """A finding: the worker hung, or died."""
        trace = _read(self._directory / "hang.txt")
        log = _read(self._directory / "log.txt")[-4000:]
        name = f"lost-{number}.input"
        current = self._directory / "current"
        (self._directory / name).write_bytes(current.read_bytes() if current.exists() else b"")
        what = "it hangs" if trace else end
        return {"cause": f"{what} ({number})", "text": f"{end}\n{trace or log}", "file": name}


def _read(path: Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""
