# SPDX-License-Identifier: Apache-2.0
"""From a disk to an image that can be uploaded.

::

    control = Control(progress=report, cancelled=event.is_set, throttle=Throttle(limit))
    with open_image(source, Options(compression="auto"), control) as image:
        image_api.update(context, image_id, metadata, data=image, size=image.size)
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Final

from nova_snap.stream.clusters import Runs, allocated
from nova_snap.stream.compress import CODECS, compress, pays, sample_ratio
from nova_snap.stream.content import Piece, chosen_clusters, content, whole_clusters, zeroes
from nova_snap.stream.control import Control, CountedSource
from nova_snap.stream.image import Image
from nova_snap.stream.qcow2 import CLUSTER_SIZE, ZLIB, InOrder, Layout, check_cluster_size
from nova_snap.stream.raw import whole_disk
from nova_snap.stream.source import Extent, Source
from nova_snap.stream.spool import Spool

FORMATS: Final = ("qcow2", "raw")
COMPRESSIONS: Final = ("auto", "none", "zlib", "zstd")


def _default_workers() -> int:
    return min(os.cpu_count() or 1, 4)


@dataclass(frozen=True)
class Options:
    """What kind of image is wanted.

    :ivar image_format: one of :data:`FORMATS`.
    :ivar compression: one of :data:`COMPRESSIONS`; a raw image is never compressed.
    :ivar cluster_size: of a qcow2 image, in bytes.
    :ivar workers: threads that compress.
    :ivar spool_memory: bytes of compressed data kept in memory before any goes to disk.
    :ivar spool_directory: for the rest; ``None`` for the system's choice.
    """

    image_format: str = "qcow2"
    compression: str = "auto"
    cluster_size: int = CLUSTER_SIZE
    workers: int = field(default_factory=_default_workers)
    spool_memory: int = 64 << 20
    spool_directory: str | None = None

    def __post_init__(self) -> None:
        for what, value, allowed in (
            ("image_format", self.image_format, FORMATS),
            ("compression", self.compression, COMPRESSIONS),
        ):
            if value not in allowed:
                raise ValueError(f"{what} {value!r}: it must be one of {', '.join(allowed)}")
        if self.workers < 1:
            raise ValueError(f"workers {self.workers}: it must be 1 or more")
        check_cluster_size(self.cluster_size)


def open_image(source: Source, options: Options, control: Control | None = None) -> Image:
    """An image of the disk.

    Where it is compressed, that is done when this returns.

    :param source: read again for every try at an upload; to be kept until the image is closed.
    :param control: of this image alone.
    :raises LayoutUnsupported: if the disk is too large for the format.
    :raises ExtentMapInvalid: if the map of the disk is not one.
    :raises SpoolFailed: if there is no room for the compressed data.
    :raises StreamCancelled: if nobody wants the image any more.
    """
    control = control or Control()
    control.check()
    extents = source.extents()
    runs = allocated(extents, source.size, options.cluster_size)
    counted = CountedSource(source, control.counts)
    if options.image_format == "raw":
        return Image(source.size, lambda: content(counted, lambda: whole_disk(extents)), control)
    compression = options.compression
    if compression == "auto":
        ratio = sample_ratio(counted, runs, options.cluster_size, control)
        compression = "zstd" if pays(ratio, options.workers, control.limit) else "none"
    builder = _Qcow2(counted, extents, runs, options, control)
    return builder.plain() if compression == "none" else builder.compressed(compression)


class _Qcow2:
    """The two ways to a qcow2 image of one disk."""

    def __init__(
        self,
        source: Source,
        extents: Sequence[Extent],
        runs: Runs,
        options: Options,
        control: Control,
    ) -> None:
        self._source = source
        self._extents = extents
        self._runs = runs
        self._options = options
        self._cluster_size = options.cluster_size
        self._control = control
        self._layout = Layout(
            source.size, InOrder(runs, self._cluster_size), cluster_size=self._cluster_size
        )

    def plain(self) -> Image:
        """Everything that has data, as it is."""

        def pieces() -> Iterator[Piece]:
            return chain(self._layout.tables(), self._content())

        return Image(self._layout.size, pieces, self._control)

    def compressed(self, compression: str) -> Image:
        """Everything that has anything but zeroes."""
        codec = CODECS[compression]
        options, control, size = self._options, self._control, self._cluster_size
        # No image grows by compression: clusters that would are stored as they are.
        control.total = self._runs.total * size + self._layout.size
        spool = Spool(options.spool_memory, options.spool_directory)
        try:
            packed = compress(
                self._content(),
                self._numbers(),
                codec,
                cluster_size=size,
                workers=options.workers,
                spool=spool,
                control=control,
            )
        except BaseException:
            spool.close()
            raise
        control.counts.spool_disk = spool.on_disk
        control.counts.spool_memory = spool.size - spool.on_disk
        layout = Layout(
            self._source.size,
            packed,
            cluster_size=size,
            compression_type=codec.header_type if packed.packed else ZLIB,
        )

        def verbatim() -> Iterator[Extent]:
            return chosen_clusters(packed.verbatim, self._source.size, size)

        def pieces() -> Iterator[Piece]:
            as_they_are = content(self._source, verbatim)
            return chain(layout.tables(), as_they_are, spool.read(), zeroes(packed.padding))

        return Image(layout.size, pieces, control, compression=compression, spool=spool)

    def _content(self) -> Iterator[Piece]:
        return content(self._source, lambda: whole_clusters(self._extents, self._cluster_size))

    def _numbers(self) -> Iterator[int]:
        for first, count in self._runs:
            yield from range(first, first + count)
