# SPDX-License-Identifier: Apache-2.0
"""The lists beside this file: what runs, what does not, and why."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Collection, Mapping
from pathlib import Path

HERE = Path(__file__).parent
SCOPE, EXCLUDED, PASSING, SHORT = (
    HERE / f"{name}.txt" for name in ("scope", "excluded", "passing", "short")
)

PASSED = "success"


def entries(path: Path) -> dict[str, str]:
    """The entries of a list, in its order, each with the comment behind it."""
    found = {}
    for line in path.read_text().splitlines():
        entry, _, comment = line.partition("#")
        if entry.strip():
            found[entry.strip()] = comment.strip()
    return found


def exactly(names: Collection[str]) -> str:
    """Regular expressions, a line each, that match the tests of these names and no other."""
    return "".join(rf"^{re.escape(name)}(\[|$)" + "\n" for name in names)


def plain_name(test_id: str) -> str:
    """A test's id without what Tempest appends to it, ``[id-...,smoke]``."""
    return test_id.partition("[")[0]


@dataclasses.dataclass(frozen=True)
class Verdict:
    """A run held against the list of tests that should have passed.

    :ivar failed: did run, and did not pass: with what came of it.
    :ivar missing: did not run.
    :ivar unknown: did run, and is on no list.
    """

    passed: int
    failed: Mapping[str, str]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]

    @classmethod
    def of(cls, results: Mapping[str, str], expected: Collection[str]) -> Verdict:
        """:param results: ``success``, ``fail``, ``skip`` ... by the test's plain name."""
        return cls(
            passed=sum(results.get(name) == PASSED for name in expected),
            failed={name: result for name, result in results.items() if result != PASSED},
            missing=tuple(name for name in expected if name not in results),
            unknown=tuple(name for name in results if name not in expected),
        )

    @property
    def good(self) -> bool:
        return not (self.failed or self.missing or self.unknown) and self.passed > 0

    def __str__(self) -> str:
        lines = [f"{self.passed} passed as they should"]
        lines += [f"{result}: {name}" for name, result in self.failed.items()]
        lines += [f"did not run: {name}" for name in self.missing]
        lines += [f"is on no list: {name}" for name in self.unknown]
        return "\n".join(lines)
