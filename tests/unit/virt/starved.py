# SPDX-License-Identifier: Apache-2.0
"""A machine on which no thread can be started, such as one at its pids.max."""

import contextlib
import threading
from collections.abc import Iterator

import pytest


@contextlib.contextmanager
def without_threads(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        yield
