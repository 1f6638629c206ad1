# SPDX-License-Identifier: Apache-2.0
"""The figures as a table, as a line of JSON, and in the documentation."""

from __future__ import annotations

import datetime
import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path

from benchmarks.figures import Figure
from tests.fixtures.commands import text as output_of

DOCUMENT = Path(__file__).resolve().parents[1] / "doc" / "performance.md"
BEGIN = "<!-- figures: written by tox -e {} -- --write -->"
END = "<!-- end of figures -->"
HEADER = ("figure", "measured", "reach", "reached")


class MarkersMissing(Exception):
    """The document has no place for the table."""

    def __init__(self, path: Path, begin: str) -> None:
        super().__init__(f"{path} has no lines {begin!r} and {END!r} to write the table between")


def table(figures: Sequence[Figure], judged: bool = True) -> str:
    """For a terminal."""
    rows = [HEADER, *(_cells(figure, judged) for figure in figures)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADER))]
    rows.insert(1, tuple("-" * width for width in widths))
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def line(figures: Sequence[Figure], rounds: int, seconds: float) -> str:
    """For programs: one line."""
    return json.dumps(
        {
            "host": host(),
            "rounds": rounds,
            "seconds": round(seconds),
            "figures": {
                figure.name: {
                    "measured": figure.measured,
                    "reach": figure.reach,
                    "reached": figure.reached,
                    **figure.data,
                }
                for figure in figures
            },
        }
    )


def write(environment: str, text: str, path: Path = DOCUMENT) -> None:
    """Put a table, such as :func:`markdown` makes, into the documentation.

    :param environment: of tox, whose table it is: its markers say where.
    :raises MarkersMissing: if there is no place for it.
    """
    marker = BEGIN.format(environment)
    before, begin, rest = path.read_text().partition(marker)
    _old, end, after = rest.partition(END)
    if not begin or not end:
        raise MarkersMissing(path, marker)
    path.write_text(f"{before}{marker}\n{text}\n{END}{after}")


def markdown(figures: Sequence[Figure], how: str) -> str:
    """The table and what it was measured on.

    :param how: such as "medians of 5 rounds".
    """
    rows = [HEADER, ("---",) * len(HEADER), *(_cells(figure, True) for figure in figures)]
    found = host()
    return "\n".join(
        [
            f"Measured on {found['date']}, {how}: {found['cpus']} CPUs "
            f"({found['cpu']}), QEMU {found['qemu']}, Python {found['python']}, load "
            f"{found['load']} when it had ended.",
            "",
            *("| " + " | ".join(row) + " |" for row in rows),
        ]
    )


def host() -> dict[str, object]:
    """What the figures depend on."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpus": os.cpu_count(),
        "cpu": _cpu_model(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "qemu": output_of("qemu-img", "--version").split()[2],
        "load": round(os.getloadavg()[0], 1),
    }


def _cells(figure: Figure, judged: bool) -> tuple[str, ...]:
    answers = {True: "yes", False: "NO", None: "reported"}
    reached = answers[figure.reached] if judged else "-"
    return figure.title, figure.measured, figure.reach, reached


def _cpu_model() -> str:
    for row in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = row.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()
