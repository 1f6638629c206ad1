# SPDX-License-Identifier: Apache-2.0
"""The bytes of an image as a file that is made while it is read."""

import logging
import os
from collections.abc import Callable, Iterator
from typing import Final, Self

from nova_snap.stream.ahead import CLOSE_TIMEOUT, ReadAhead
from nova_snap.stream.content import BLOCK, Piece, blocks
from nova_snap.stream.control import Control, Counts
from nova_snap.stream.image_errors import SourceStalled

LOG = logging.getLogger(__name__)

# Blocks of at most 1 MiB that are read before they are asked for.
READ_AHEAD: Final = 4


class Image:
    """The bytes of an image, from first to last, as often as they are wanted.

    :ivar size: how many there are, exactly; ``None`` while only the end of them tells.
    :ivar compression: what was chosen: ``none``, ``zlib`` or ``zstd``.
    :ivar counts: what was done so far.
    """

    def __init__(
        self,
        pieces: Callable[[Control], Iterator[Piece]],
        control: Control,
        *,
        size: int | None = None,
        compression: str = "none",
    ) -> None:
        """:param pieces: makes the bytes, once for each try, under that try's control, which it
            checks several times a second: else no try could follow one that broke off.

        :param size: without it, ``pieces`` accounts for what it does, and not what is handed out.
        """
        self.size = size
        self.compression = compression
        self.counts: Counts = control.counts
        self._pieces = pieces
        self._control = control  # of the try that is being read
        self._ahead: ReadAhead[bytes] | None = None
        self._block = b""
        self._taken = 0  # bytes of the block
        self._position = 0
        self._ended = False
        if size is not None:
            control.total = size

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def read(self, size: int = -1) -> bytes:
        """The next bytes: at most ``size``, or 1 MiB for a negative one; none only at the end.

        :raises StreamCancelled: if nobody wants the image any more.
        :raises NovaSnapError: what reading the disk raised.
        """
        if not size or self._ended or self._position == self.size:
            return b""
        if self._taken == len(self._block):
            self._block, self._taken = self._next_block(), 0
        data = self._block[self._taken : self._taken + (size if size > 0 else BLOCK)]
        if self.size is None:
            self._control.check()
        else:
            self._control.advance(len(data))
        self._taken += len(data)
        self._position += len(data)
        self.counts.sent += len(data)
        return data

    def tell(self) -> int:
        """How many bytes were read since the last rewind."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Begin again.

        :raises ValueError: for any other place than byte 0.
        """
        if (offset, whence) != (0, os.SEEK_SET):
            raise ValueError(f"seek to {offset} from {whence}: an image only rewinds to 0")
        self.rewind()
        return 0

    def rewind(self) -> None:
        """Begin again at byte 0 of the same disk.

        :raises SourceStalled: if the disk is still being read, for it is read by one at a time.
        """
        if not self._stop():
            raise SourceStalled(seconds=CLOSE_TIMEOUT)
        self._position = 0
        self._ended = False
        self._control = self._control.another()

    def close(self) -> None:
        """Stop reading and free everything; what is left cannot be read. May be called again."""
        if not self._stop():
            LOG.warning("A read of the disk still waits; it ends when its own time limit does.")

    def _next_block(self) -> bytes:
        if self._ahead is None:
            self._ahead = ReadAhead(blocks(self._pieces(self._control)), READ_AHEAD)
        block = self._ahead.next(self._control.check)
        if self.size is None:
            self._ended = block is None
            return block or b""
        if block is None or len(block) > self.size - self._position:
            raise EOFError(f"an image of {self.size} bytes has another end after {self._position}")
        return block

    def _stop(self) -> bool:
        """Whether nothing reads the disk any more."""
        # Whatever makes the next block may be far from its end: it is told, too.
        self._control.stop()
        self._block, self._taken = b"", 0
        if self._ahead is not None and self._ahead.close():
            self._ahead = None
        return self._ahead is None
