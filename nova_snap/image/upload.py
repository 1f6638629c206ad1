# SPDX-License-Identifier: Apache-2.0
"""What is sent to the image service, counted and hashed while it is read."""

import hashlib
from collections.abc import Iterator
from typing import Final, Protocol

PIECE: Final = 1 << 20
"""Bytes that are read, hashed and sent at a time."""


class ImageData(Protocol):
    """The content of an image, which may be read more than once."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none only at the end."""

    def seek(self, offset: int, /) -> int:
        """Go to ``offset``, which is always 0."""


class HashingReader:
    """An image to be uploaded, which may be read more than once.

    :param data: seekable.
    :param size: how many bytes of it are the image. A file that ends before that is an error,
        because the image service was told the size.
    :param hashing: whether the data is hashed at all.
    """

    algorithm: Final = "sha512"

    def __init__(self, data: ImageData, size: int, *, hashing: bool = True) -> None:
        self.size = size
        self.used = False
        self._data = data
        self._left = size
        self._hashing = hashing
        self._hash = hashlib.sha512()

    @property
    def complete(self) -> bool:
        """Whether every byte was read since the last rewind."""
        return self._left == 0

    def rewind(self) -> None:
        """Begin again at byte 0."""
        self._data.seek(0)
        self._left = self.size
        self._hash = hashlib.sha512()
        self.used = True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes, all that is left for a negative one; empty at the end.

        :raises EOFError: if the file is shorter than it was said to be.
        """
        wanted = self._left if size < 0 else min(size, self._left)
        chunk = self._data.read(wanted)
        if wanted and not chunk:
            raise EOFError(f"the image ends {self._left} bytes before its size of {self.size}")
        self._left -= len(chunk)
        if self._hashing:
            self._hash.update(chunk)
        return chunk

    def hexdigest(self) -> str | None:
        """sha512 of what was read since the last rewind; ``None`` if it is not hashed."""
        return self._hash.hexdigest() if self._hashing else None


class Body:
    """The rest of an image as the body of a request, in pieces of :data:`PIECE`.

    It has no ``read``: an HTTP client that finds one reads by itself, 16 KiB at a time, and to
    send each costs as much again as to make it.
    """

    def __init__(self, reader: HashingReader) -> None:
        self._reader = reader

    def __len__(self) -> int:
        """What the client puts into Content-Length."""
        return self._reader.size

    def __iter__(self) -> Iterator[bytes]:
        while not self._reader.complete:
            yield self._reader.read(PIECE)
