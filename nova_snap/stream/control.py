# SPDX-License-Identifier: Apache-2.0
"""What the owner of a stream sees of it, and how it is stopped."""

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

from nova_snap.stream.image_errors import StreamCancelled
from nova_snap.stream.source import Extent, Source
from nova_snap.stream.throttle import Throttle

Progress = Callable[[int, int], None]


@dataclass
class Counts:
    """What a stream did so far.

    :ivar read: bytes read from the disk; more than the image has where it was compressed or sent
        again.
    :ivar sent: bytes handed out, all tries together.
    :ivar zero_clusters: clusters of the map's data that held only zeroes and were left out.
    :ivar verbatim_clusters: clusters that compression would not have made smaller.
    """

    read: int = 0
    sent: int = 0
    zero_clusters: int = 0
    verbatim_clusters: int = 0


class Control:
    """Progress, cancelling and the speed limit of one image.

    :param progress: called with (bytes done, bytes in total) after every block, from the thread
        that works or reads: bytes of the image, or of the disk where they are compressed on the
        way. The share that is done shrinks only when an upload starts again.
    :param cancelled: asked several times a second.
    :param throttle: limits what is sent, or what is read to be compressed, so that neither the
        disk nor the network sees more than the limit.
    """

    def __init__(
        self,
        *,
        progress: Progress | None = None,
        cancelled: Callable[[], bool] | None = None,
        throttle: Throttle | None = None,
    ) -> None:
        self.counts = Counts()
        self.done = 0
        self.total = 0
        self._progress = progress
        self._cancelled = cancelled
        self._throttle = throttle or Throttle(0)
        self._stopped = threading.Event()

    def another(self) -> Self:
        """Of one more try at the same image: nothing of it is done yet, and it is stopped alone."""
        made = copy.copy(self)
        made.done = 0
        made._stopped = threading.Event()
        return made

    def stop(self) -> None:
        """Have every :meth:`check` from now on say that nobody wants this try any more."""
        self._stopped.set()

    @property
    def limit(self) -> float:
        """Bytes a second; 0 for no limit."""
        return self._throttle.rate

    def check(self) -> None:
        """:raises StreamCancelled: if nobody wants the image any more."""
        if self._stopped.is_set() or (self._cancelled is not None and self._cancelled()):
            raise StreamCancelled(done=self.done)

    def advance(self, length: int) -> None:
        """Account for ``length`` bytes, and wait until the limit allows them.

        :raises StreamCancelled: if nobody wants the image any more.
        """
        self.pace(length)
        self.account(length)

    def pace(self, length: int) -> None:
        """Wait until the limit allows ``length`` bytes.

        :raises StreamCancelled: if nobody wants the image any more.
        """
        self.check()
        self._throttle.take(length, self.check)

    def account(self, length: int) -> None:
        """Say that ``length`` more bytes are done."""
        self.done += length
        if self._progress is not None:
            self._progress(self.done, self.total)


class CountedSource:
    """A source whose bytes are counted as they are read."""

    def __init__(self, source: Source, counts: Counts) -> None:
        self._source = source
        self._counts = counts

    @property
    def size(self) -> int:
        return self._source.size

    def extents(self) -> Sequence[Extent]:
        return self._source.extents()

    def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        pieces = self._source.read(ranges)
        try:
            for piece in pieces:
                self._counts.read += len(piece)
                yield piece
        finally:
            close = getattr(pieces, "close", None)
            if close is not None:
                close()
