# SPDX-License-Identifier: Apache-2.0
"""Runs Tempest, out of a virtualenv of its own, and reads what came of each test."""

from __future__ import annotations

import csv
import io
import os
import subprocess
from pathlib import Path

from tests.fixtures.commands import run
from tests.fixtures.service_venv import ServiceVenv
from tests.tempest import lists

VENV = ServiceVenv("tempest", "tempest==47.0.0")


class Tempest:
    """Tempest with one configuration.

    :param config: the file, in a directory that the run may write to.
    """

    def __init__(self, config: Path) -> None:
        self._config = config
        self._directory = config.parent
        self._bin = VENV.python().parent
        self._environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith(("OS_", "PYTHON"))},
            "PATH": f"{self._bin}:{os.environ['PATH']}",
        }

    def discover(self) -> list[str]:
        """The plain names of all tests in scope that are not excluded, without running any."""
        if not (self._directory / ".stestr").exists():
            # Only a run makes itself the repository that listing wants as well.
            run(self._bin / "stestr", "init", cwd=self._directory, env=self._environment)
        done = run(
            *self._command("--include-list", lists.SCOPE, "--exclude-list", lists.EXCLUDED),
            "--list-tests",
            cwd=self._directory,
            env=self._environment,
            timeout=300,
        )
        lines = done.stdout.decode().splitlines()
        return sorted({lists.plain_name(line) for line in lines if line.startswith("tempest.")})

    def run_all(self, concurrency: int) -> dict[str, str]:
        """Run everything in scope that is not excluded."""
        words = ("--include-list", lists.SCOPE, "--exclude-list", lists.EXCLUDED)
        return self._run(concurrency, *words)

    def run_only(self, names: list[str], concurrency: int) -> dict[str, str]:
        """Run the tests of these names."""
        chosen = self._directory / "chosen.txt"
        chosen.write_text(lists.exactly(names))
        return self._run(concurrency, "--include-list", chosen)

    def _command(self, *words: str | Path) -> list[str | Path]:
        return [self._bin / "tempest", "run", "--config-file", self._config, *words]

    def _run(self, concurrency: int, *words: str | Path) -> dict[str, str]:
        """:returns: ``success``, ``fail``, ``skip`` ... by plain name."""
        # Its report goes to where this process's output goes; an exit code other than 0 only says
        # that not every test has passed.
        subprocess.run(
            self._command("--concurrency", str(concurrency), *words),
            cwd=self._directory,
            env=self._environment,
            check=False,
        )
        recorded = run(
            self._bin / "stestr", "last", "--subunit",
            cwd=self._directory, env=self._environment, ok=(0, 1),
        ).stdout  # fmt: skip
        table = run(
            self._bin / "subunit2csv", "--no-passthrough",
            stdin=recorded, cwd=self._directory, env=self._environment, ok=(0, 1),
        ).stdout  # fmt: skip
        rows = csv.DictReader(io.StringIO(table.decode()))
        return {lists.plain_name(row["test"]): row["status"] for row in rows}
