# SPDX-License-Identifier: Apache-2.0
"""The content of a disk as one run of bytes, with zeroes made here where they are known."""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from nova_snap.stream.image_errors import SourceMismatch
from nova_snap.stream.source import Extent, Source

# Whatever is handed on comes in blocks of at most this many bytes.
BLOCK: Final = 1 << 20

# Zeroes between two pieces of data are read with them up to this many bytes. One more request
# costs some 20 us of a client's time, in which it reads 40 KiB.
READ_THROUGH: Final = 32 << 10

_ZEROES: Final = bytes(BLOCK)
_ZEROES_VIEW: Final = memoryview(_ZEROES)

Parts = Callable[[], Iterable[Extent]]
Piece = bytes | memoryview


def zeroes(length: int) -> Iterator[Piece]:
    """``length`` bytes of zeroes, none of them allocated."""
    while length >= BLOCK:
        yield _ZEROES
        length -= BLOCK
    if length:
        yield _ZEROES_VIEW[:length]


def whole_clusters(extents: Iterable[Extent], cluster_size: int) -> Iterator[Extent]:
    """What makes up the clusters that any data lies in, in order and without a gap in any cluster.

    The last cluster is filled with zeroes, past the end of the disk if need be.
    """
    start = end = -cluster_size  # the data seen last, not yet handed on
    for offset, length, data in extents:
        if not data:
            continue
        if start >= 0 and offset - end < READ_THROUGH:
            end = offset + length
            continue
        if start >= 0:
            yield Extent(start, end - start, True)
        filled = end + -end % cluster_size
        begin = offset - offset % cluster_size
        if begin <= filled:
            filled, begin = offset, offset
        if filled > end >= 0:
            yield Extent(end, filled - end, False)
        if begin < offset:
            yield Extent(begin, offset - begin, False)
        start, end = offset, offset + length
    if start >= 0:
        yield Extent(start, end - start, True)
        if end % cluster_size:
            yield Extent(end, -end % cluster_size, False)


def chosen_clusters(
    runs: Iterable[tuple[int, int]], size: int, cluster_size: int
) -> Iterator[Extent]:
    """The same for clusters that were chosen by their numbers.

    :param runs: (first, count) of the clusters.
    :param size: of the disk, in bytes.
    """
    for first, count in runs:
        offset = first * cluster_size
        wanted = count * cluster_size
        length = min(wanted, size - offset)
        yield Extent(offset, length, True)
        if length < wanted:
            yield Extent(size, wanted - length, False)


def content(source: Source, parts: Parts) -> Iterator[Piece]:
    """The bytes of some parts of a disk, in the order of the parts.

    :param parts: asked twice, for the requests run ahead of the answers; it must say the same.
    :returns: pieces, each valid until the next one is asked for.
    :raises SourceMismatch: if the source gives other ranges than it was asked for.
    """
    pieces = source.read((part.offset, part.length) for part in parts() if part.data)
    try:
        for part in parts():
            if part.data:
                yield from _one_range(pieces, part)
            else:
                yield from zeroes(part.length)
        if next(pieces, None) is not None:
            raise SourceMismatch(offset=source.size, reason="more came than was asked for")
    finally:
        # A source that pipelines its requests has some to take back.
        close = getattr(pieces, "close", None)
        if close is not None:
            close()


def _one_range(pieces: Iterator[memoryview], part: Extent) -> Iterator[memoryview]:
    left = part.length
    while left:
        piece = next(pieces, None)
        if piece is None:
            at = part.offset + part.length - left
            raise SourceMismatch(offset=at, reason=f"it ended {left} bytes too early")
        left -= len(piece)
        if left < 0:
            raise SourceMismatch(
                offset=part.offset, reason=f"a piece is {-left} bytes longer than its range"
            )
        yield piece


def blocks(pieces: Iterable[Piece]) -> Iterator[bytes]:
    """The same bytes in blocks that may be kept, of a size that is worth a call to send.

    A piece of a quarter of a block and more is copied once, smaller ones are joined.
    """
    held: list[bytes] = []
    length = 0
    for piece in pieces:
        if not held and BLOCK // 4 <= len(piece) <= BLOCK:
            yield bytes(piece)
            continue
        for begin in range(0, len(piece), BLOCK):
            part = bytes(piece[begin : begin + BLOCK])
            if length + len(part) > BLOCK:
                yield b"".join(held)
                held, length = [], 0
            held.append(part)
            length += len(part)
            if length >= BLOCK // 4:
                yield b"".join(held)
                held, length = [], 0
    if held:
        yield b"".join(held)
