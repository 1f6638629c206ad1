# SPDX-License-Identifier: Apache-2.0
"""What is sent to the image service, counted and hashed while it is read."""

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from typing import Final, Protocol

from nova_snap import exception

READ: Final = 1 << 20
"""Bytes that are read at a time."""

PIECE: Final = 256 << 10
"""Bytes that are hashed and sent at a time: as many as stay in a processor's own cache.

Measured on two cores against a Glance that cheroot served: in pieces of 1 MiB the same data took 3
to 8 % longer, round for round. Where the length is not known these are the chunks, each of which a
server may read as a whole before it goes on: in chunks of 1 MiB it took 40 % longer.
"""


class ImageData(Protocol):
    """The content of an image, which may be read more than once."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none only at the end."""

    def seek(self, offset: int, /) -> int:
        """Go to ``offset``, which is always 0."""


class Body:
    """An image as the body of a request, which may be sent more than once.

    It has no ``read``: an HTTP client that finds one reads by itself, 16 KiB at a time, and to
    send each costs as much again as to make it. It has no length either: the client sends chunks.

    :param data: seekable.
    :param algorithm: what it is hashed with; ``None`` for not at all.
    :ivar sent: bytes that were handed out since the last rewind.
    :ivar complete: whether every byte was.
    :ivar used: whether any was, ever.
    :ivar at_end: called when no more of it is asked for: it is complete, or the sending broke off.
    """

    def __init__(self, data: ImageData, algorithm: str | None = "sha512") -> None:
        self.algorithm: Final = algorithm
        self.sent = 0
        self.complete = False
        self.used = False
        self.at_end: Callable[[], None] = lambda: None
        self._data = data
        self._hash = self._new_hash()

    def rewind(self) -> None:
        """Begin again at byte 0.

        :raises nova_snap.exception.ImageSourceUnreadable: if the data cannot be read.
        """
        with _reading():
            self._data.seek(0)
        self.sent = 0
        self.complete = False
        self.used = True
        self._hash = self._new_hash()

    def __iter__(self) -> Iterator[memoryview]:
        """The rest of the bytes.

        :raises nova_snap.exception.ImageSourceUnreadable: if they cannot be read.
        """
        try:
            while data := self._read():
                view = memoryview(data)
                for begin in range(0, len(view), PIECE):
                    piece = view[begin : begin + PIECE]
                    if self._hash is not None:
                        self._hash.update(piece)
                    self.sent += len(piece)
                    yield piece
            self.complete = True
        finally:
            self.at_end()

    def hexdigest(self) -> str | None:
        """Hash of what was sent since the last rewind; ``None`` if it is not hashed."""
        return None if self._hash is None else self._hash.hexdigest()

    def _new_hash(self) -> "hashlib._Hash | None":
        if self.algorithm is None:
            return None
        return hashlib.new(self.algorithm, usedforsecurity=False)

    def _read(self) -> bytes:
        with _reading():
            return self._data.read(READ)


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Who sends takes an OSError for one of the connection, and so would try again."""
    try:
        yield
    except OSError as error:
        raise exception.ImageSourceUnreadable(reason=str(error)) from error


class SizedBody(Body):
    """One whose length the client puts into Content-Length.

    :param size: how many bytes of the data are the image.
    """

    def __init__(self, data: ImageData, size: int, algorithm: str | None = "sha512") -> None:
        super().__init__(data, algorithm)
        self._size = size

    def __len__(self) -> int:
        return self._size

    def _read(self) -> bytes:
        """:raises EOFError: if the data is shorter than it was said to be."""
        left = self._size - self.sent
        with _reading():
            data = self._data.read(min(READ, left)) if left else b""
        if left and not data:
            raise EOFError(f"the image ends {left} bytes before its size of {self._size}")
        return data
