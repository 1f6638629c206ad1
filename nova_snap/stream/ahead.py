# SPDX-License-Identifier: Apache-2.0
"""Reads on in a thread of its own while what was read is being sent."""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import Final

# How often a reader that has to wait looks at whether anybody still wants the bytes, in seconds.
_POLL: Final = 0.2

# How long close() waits for the thread. A source that hangs has time limits of its own.
CLOSE_TIMEOUT: Final = 1.0


class ReadAhead:
    """Takes blocks from an iterator, at most ``depth`` of them before they are asked for.

    :param blocks: used, and closed at the end, in the thread only.
    """

    def __init__(self, blocks: Iterator[bytes], depth: int) -> None:
        self._blocks = blocks
        self._ready: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
        self._stopped = threading.Event()
        self._over = False
        self._thread = threading.Thread(target=self._run, name="read-ahead", daemon=True)
        self._thread.start()

    def next(self, check: Callable[[], None]) -> bytes | None:
        """The next block, ``None`` after the last one.

        :param check: called while waiting, several times a second; what it raises ends the wait.
        :raises Exception: what the iterator raised, at the place where it did.
        """
        while not self._over:
            try:
                item = self._ready.get(timeout=_POLL)
            except queue.Empty:
                check()
                continue
            if isinstance(item, bytes):
                return item
            self._over = True
            if item is not None:
                raise item
        return None

    def close(self) -> bool:
        """Stop reading. Blocks that are ready are dropped.

        :returns: whether the thread has ended. If not, it still uses the iterator.
        """
        self._stopped.set()
        self._over = True
        # The thread may wait for room: it needs it once, and then sees that it is to stop.
        while not self._ready.empty():
            self._ready.get_nowait()
        self._thread.join(CLOSE_TIMEOUT)
        return not self._thread.is_alive()

    def _run(self) -> None:
        end: BaseException | None = None
        try:
            for block in self._blocks:
                self._ready.put(block)
                if self._stopped.is_set():
                    break
        except BaseException as error:
            end = error
        finally:
            close = getattr(self._blocks, "close", None)
            if close is not None:
                close()
        if not self._stopped.is_set():
            self._ready.put(end)
