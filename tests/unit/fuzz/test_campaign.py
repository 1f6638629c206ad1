# SPDX-License-Identifier: Apache-2.0
"""A campaign's own findings: what becomes of its worker."""

import json
import subprocess
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fuzz import campaign
from tests.fuzz.campaign import Campaign, Summary

Work = Callable[[int, dict[str, object] | None], Summary]

RESULT = {
    "executions": 7, "seconds": 0.1, "outcomes": 2, "peak_mib": 100, "findings": [], "ended": True
}  # fmt: skip
# The campaign calls it with "-m tests.fuzz.worker TARGET --directory DIRECTORY" and more.
WORKER = """\
#!/bin/sh
{result}
echo 'RuntimeError: 3 threads are left' >&2
exit {code}
"""


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Run a campaign whose workers end with this code, after this result."""

    def run(code: int, result: dict[str, object] | None) -> Summary:
        script = tmp_path / "worker"
        said = "" if result is None else f"echo '{json.dumps(result)}' > \"$5/result.json\""
        script.write_text(WORKER.format(code=code, result=said))
        script.chmod(0o700)
        monkeypatch.setattr(campaign, "sys", types.SimpleNamespace(executable=str(script)))
        return Campaign("nbd", 1, tmp_path / "found").run(0.4)

    return run


def test_a_worker_that_is_through(work: Work) -> None:
    found = work(0, RESULT)
    assert found.findings == []
    assert found.executions >= 7


def test_what_is_found_when_the_target_is_closed(work: Work) -> None:
    """Its inputs are through, and the result says so."""
    found = work(1, RESULT)
    assert found.findings[0]["cause"] == "the worker ended with 1 (1)"
    assert "3 threads are left" in found.findings[0]["text"]


def test_a_target_that_does_nothing_is_named(tmp_path: Path) -> None:
    """In no time no input is given."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz", "--minutes", "0", "--target", "nbd"),
            *("--target", "glance", "--keep", str(tmp_path)),
        ],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "0 executions, 0 findings" in done.stdout, done.stderr
    assert "No input was given to: nbd, glance" in done.stdout
    assert done.returncode == 1


def test_a_worker_that_is_lost(work: Work) -> None:
    assert work(0, None).findings
    assert work(0, {**RESULT, "ended": False}).findings
