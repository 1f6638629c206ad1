# SPDX-License-Identifier: Apache-2.0
"""What processes hold: memory, files, threads."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holding:
    """What a process holds at a moment.

    :ivar rss: bytes in memory.
    """

    rss: int
    files: int
    threads: int


def holding(pid: int) -> Holding:
    """:raises FileNotFoundError: if there is no such process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    return Holding(
        rss=int(status["VmRSS"].split()[0]) << 10,
        files=len(os.listdir(f"/proc/{pid}/fd")),
        threads=int(status["Threads"]),
    )
