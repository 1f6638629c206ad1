# SPDX-License-Identifier: Apache-2.0
"""What is shown while it runs: one line that changes on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from typing import TextIO

TITLE_WIDTH = 44
HEADER = ("", "result", "time", "size")


@dataclasses.dataclass
class Step:
    """Something that is being done.

    :ivar result: what came of it, for its line; may be set by whoever does it.
    :ivar seconds: how long it took, once it is done.
    """

    title: str
    result: str = ""
    seconds: float = 0


@dataclasses.dataclass(frozen=True)
class Row:
    """A line of the table at the end; ``size`` is in bytes."""

    what: str
    result: str
    seconds: float | None = None
    size: int | None = None

    def cells(self) -> tuple[str, str, str, str]:
        time_taken = "" if self.seconds is None else f"{self.seconds:.1f} s"
        return self.what, self.result, time_taken, "" if self.size is None else mib(self.size)


class Screen:
    """Where a tool talks to."""

    def __init__(self, out: TextIO = sys.stdout) -> None:
        self._out = out
        self._tty = out.isatty()
        self._live = False

    def say(self, text: str = "") -> None:
        """A line, or several, that stay."""
        self._wipe()
        print(text, file=self._out, flush=True)

    def live(self, text: str, *, news: bool = False) -> None:
        """A line that the next one replaces. Where none can be replaced, only news are shown."""
        if self._tty:
            width = shutil.get_terminal_size().columns - 1
            print(f"\r\x1b[K{text[:width]}", end="", file=self._out, flush=True)
            self._live = True
        elif news:
            self.say(text)

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[Step]:
        """Show that something is being done, and then how long it took."""
        step = Step(title)
        began = time.monotonic()
        self.live(f"  {title} ...")
        try:
            yield step
        except BaseException:
            self._wipe()
            raise
        step.seconds = time.monotonic() - began
        self.say(f"  {title:{TITLE_WIDTH}} {step.seconds:6.1f} s  {step.result}".rstrip())

    def table(self, rows: Sequence[Row]) -> None:
        """The summary."""
        lines = [HEADER, *(row.cells() for row in rows)]
        widths = [max(len(line[column]) for line in lines) for column in range(len(HEADER))]
        for number, (what, result, seconds, size) in enumerate(lines):
            self.say(
                f"  {what:{widths[0]}}  {result:{widths[1]}}  "
                f"{seconds:>{widths[2]}}  {size:>{widths[3]}}".rstrip()
            )
            if number == 0:
                self.say("  " + "  ".join("-" * width for width in widths))

    def _wipe(self) -> None:
        if self._live:
            print("\r\x1b[K", end="", file=self._out, flush=True)
            self._live = False


def mib(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / (1 << 20):.1f} MiB"
