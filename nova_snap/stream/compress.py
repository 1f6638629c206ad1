# SPDX-License-Identifier: Apache-2.0
"""Compression of clusters, on as many threads as are allowed."""

import threading
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, NamedTuple

import zstandard

from nova_snap.stream.ahead import ReadAhead
from nova_snap.stream.clusters import Runs
from nova_snap.stream.content import Piece, chosen_clusters, content
from nova_snap.stream.control import Control
from nova_snap.stream.growing import Clusters, Stored
from nova_snap.stream.qcow2_format import ZLIB, ZSTD
from nova_snap.stream.source import Source

# Measured on 64 KiB clusters of an operating system's files, for each thread.
ZSTD_RATE: Final = 230e6
# What an image service takes, in bytes a second: 130 to 190 MB/s where it hashes twice.
SEND_RATE: Final = 160e6

# What compression must gain to be worth the CPU time.
_GAIN: Final = 0.1

# At most so many clusters are looked at, and one of so many.
SAMPLE: Final = 1024
_SAMPLED: Final = 64
_FEWEST: Final = 64

# A cluster that saves less than a sixteenth is not worth decompressing on every read.
_WORTH: Final = 15 / 16

# What a thread is given at once, so that handing it over costs little.
_BATCH: Final = 1 << 20

# Batches that are read before there is a thread for them.
_AHEAD: Final = 2

# Raw deflate with a window of 4 KiB, which is all that QEMU's decoder allows for.
_ZLIB_WINDOW: Final = -12

Compress = Callable[[memoryview], bytes]


class Codec(NamedTuple):
    """A way to compress clusters.

    :ivar name: as in ``snapshot_compression``.
    :ivar header_type: as in the header of a qcow2 image.
    :ivar make: makes a function that one thread may use.
    """

    name: str
    header_type: int
    make: Callable[[], Compress]


def _zlib() -> Compress:
    return lambda cluster: zlib.compress(cluster, 1, _ZLIB_WINDOW)


def _zstd() -> Compress:
    # Level 1: time to compress and send is A/457 + 0.348 A/160 there, A/421 + 0.334 A/160 at
    # level 3. QEMU takes plain frames, without a dictionary or a checksum.
    return zstandard.ZstdCompressor(level=1).compress


def _as_it_is() -> Compress:
    return bytes


CODECS: Final = {
    "none": Codec("none", ZLIB, _as_it_is),
    "zlib": Codec("zlib", ZLIB, _zlib),
    "zstd": Codec("zstd", ZSTD, _zstd),
}


def pays(ratio: float, workers: int, limit: float = 0) -> bool:
    """Whether an image is there sooner, by a tenth at least, if it is compressed with zstd.

    For A bytes of data, max(A / compress, ratio * A / send) against A / send, because what is
    compressed is sent while the rest is.

    :param ratio: of the compressed length to the length.
    :param workers: threads.
    :param limit: of the speed, in bytes a second, for reading and for sending; 0 for none.
    """
    send = min(SEND_RATE, limit) if limit else SEND_RATE
    compress = min(ZSTD_RATE * workers, limit) if limit else ZSTD_RATE * workers
    return max(send / compress, ratio) <= 1 - _GAIN


def sample_ratio(
    source: Source,
    runs: Runs,
    cluster_size: int,
    control: Control,
    codec: Codec = CODECS["zstd"],
) -> float:
    """What a codec would make of the disk, from a few clusters spread over its data.

    :returns: 1 for a disk without data: there is nothing to gain.
    :raises StreamCancelled: if nobody wants the image any more.
    """
    numbers = list(runs.sample(max(min(SAMPLE, runs.total // _SAMPLED), _FEWEST)))
    compress = codec.make()
    zeroes = bytearray(cluster_size)
    stored = 0
    pieces = content(
        source, lambda: chosen_clusters(((n, 1) for n in numbers), source.size, cluster_size)
    )
    with ReadAhead(_batches(pieces, cluster_size), _AHEAD) as reader:
        while (batch := reader.next(control.check)) is not None:
            control.check()
            for result in _compressed(batch, cluster_size, compress, zeroes):
                stored += len(result)
    return stored / (len(numbers) * cluster_size) if numbers else 1.0


def compressed(
    pieces: Iterable[Piece],
    numbers: Iterator[int],
    codec: Codec,
    *,
    cluster_size: int,
    workers: int,
    control: Control,
) -> Clusters:
    """What is stored of clusters, in their order; nothing of those that hold only zeroes.

    :param pieces: the clusters' content, all together.
    :param numbers: the clusters' numbers.
    :raises StreamCancelled: if nobody wants the image any more.
    """
    work = _Work(codec, cluster_size)
    waiting: deque[Future[list[bytes]]] = deque()

    def next_ones() -> Iterator[Stored]:
        for result in waiting.popleft().result():
            number = next(numbers)
            control.account(cluster_size)
            if not result:
                control.counts.zero_clusters += 1
                continue
            if len(result) == cluster_size:
                control.counts.verbatim_clusters += 1
            yield Stored(number, result)

    pool = ThreadPoolExecutor(workers, thread_name_prefix="compress")
    reader = ReadAhead(_batches(pieces, max(_BATCH, cluster_size)), _AHEAD)
    try:
        while (batch := reader.next(control.check)) is not None:
            control.pace(len(batch))
            waiting.append(pool.submit(work, batch))
            if len(waiting) > 2 * workers:
                yield from next_ones()
        while waiting:
            control.check()
            yield from next_ones()
    finally:
        # Whoever has enough of this may read the disk again, which is read by one at a time.
        reader.close(timeout=None)
        pool.shutdown(cancel_futures=True)


class _Work:
    """Compresses batches; each thread has a compressor of its own."""

    def __init__(self, codec: Codec, cluster_size: int) -> None:
        self._codec = codec
        self._cluster_size = cluster_size
        self._zeroes = bytearray(cluster_size)
        self._local = threading.local()

    def __call__(self, batch: bytearray) -> list[bytes]:
        compress: Compress | None = getattr(self._local, "compress", None)
        if compress is None:
            compress = self._local.compress = self._codec.make()
        return list(_compressed(batch, self._cluster_size, compress, self._zeroes))


def _compressed(
    batch: bytearray, cluster_size: int, compress: Compress, zeroes: bytearray
) -> Iterator[bytes]:
    """For each cluster what is to be stored: nothing for zeroes, itself for it as it is."""
    with memoryview(batch) as view:
        for begin in range(0, len(batch), cluster_size):
            cluster = view[begin : begin + cluster_size]
            # A bytearray on the left compares as memcmp does; bytes would go byte by byte here.
            if zeroes == cluster:
                yield b""
                continue
            result = compress(cluster)
            yield result if len(result) <= cluster_size * _WORTH else bytes(cluster)


def _batches(pieces: Iterable[Piece], size: int) -> Iterator[bytearray]:
    """The same bytes in pieces of ``size``, the last one perhaps shorter, to be kept."""
    batch = bytearray(size)
    filled = 0
    for piece in pieces:
        taken = 0
        while taken < len(piece):
            part = min(size - filled, len(piece) - taken)
            batch[filled : filled + part] = piece[taken : taken + part]
            filled += part
            taken += part
            if filled == size:
                yield batch
                batch = bytearray(size)
                filled = 0
    if filled:
        yield batch[:filled]
