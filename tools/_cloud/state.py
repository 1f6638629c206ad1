# SPDX-License-Identifier: Apache-2.0
"""Whether the services of a cloud that was left up still serve."""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PATIENCE = 5.0


@dataclasses.dataclass(frozen=True)
class Service:
    """A service, and what tells that it serves.

    :ivar address: a URL that answers without an error, or ``127.0.0.1:PORT`` that connects.
    :ivar program: instead of an address, a word in the command line of its process.
    """

    name: str
    address: str = ""
    program: str = ""
    log: str = ""

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> list[Service]:
        """Those of a home."""
        return [cls(**service) for service in notes["services"]]

    def serves(self, pids: list[int]) -> bool:
        """Whether it does now.

        :param pids: of the processes that may be its own.
        """
        if self.program:
            return any(_runs(pid, self.program) for pid in pids)
        if self.address.startswith("http"):
            return _answers(self.address)
        host, _, port = self.address.rpartition(":")
        with contextlib.suppress(OSError):
            socket.create_connection((host, int(port)), timeout=PATIENCE).close()
            return True
        return False


def _runs(pid: int, program: str) -> bool:
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        return any(Path(word.decode("utf-8", "replace")).name == program for word in words)
    return False


def _answers(url: str) -> bool:
    # No proxy stands before what this machine serves itself.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        # What is no answer of success is raised.
        opener.open(url, timeout=PATIENCE).close()
    except OSError:
        return False
    return True
