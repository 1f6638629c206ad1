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
from nova_snap.stream.compress import CODECS, compressed, pays, sample_ratio
from nova_snap.stream.content import Piece, chosen_clusters, content, whole_clusters
from nova_snap.stream.control import Control, CountedSource
from nova_snap.stream.growing import GrowingLayout
from nova_snap.stream.image import Image
from nova_snap.stream.qcow2 import Layout
from nova_snap.stream.qcow2_format import CLUSTER_SIZE, check_cluster_size
from nova_snap.stream.raw import whole_disk
from nova_snap.stream.source import Extent, Source

FORMATS: Final = ("qcow2", "raw")
COMPRESSIONS: Final = ("auto", "none", "zlib", "zstd")


# Where the tables of a compressed image lie, of what is expected. Data that is left over costs
# little, and zeroes in front of the tables are sent for nothing.
_EXPECTED: Final = 0.95


def _default_workers() -> int:
    return min(os.cpu_count() or 1, 4)


@dataclass(frozen=True)
class Options:
    """What kind of image is wanted.

    :ivar image_format: one of :data:`FORMATS`.
    :ivar compression: one of :data:`COMPRESSIONS`; a raw image is never compressed.
    :ivar cluster_size: of a qcow2 image, in bytes.
    :ivar workers: threads that compress.
    :ivar spool_memory: bytes of compressed data kept in memory; see
        :mod:`nova_snap.stream.growing`.
    :ivar find_zeroes: the source does not know where it has no data, as a block device does not:
        a qcow2 image leaves the zeroes out, compressed or not. Its length is then known only at
        its end.
    """

    image_format: str = "qcow2"
    compression: str = "auto"
    cluster_size: int = CLUSTER_SIZE
    workers: int = field(default_factory=_default_workers)
    spool_memory: int = 64 << 20
    find_zeroes: bool = False

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

    :param source: read again for every try at an upload; to be kept until the image is closed.
    :param control: of this image alone.
    :raises LayoutUnsupported: if the disk is too large for the format.
    :raises ExtentMapInvalid: if the map of the disk is not one.
    :raises StreamCancelled: if nobody wants the image any more.
    """
    control = control or Control()
    control.check()
    extents = source.extents()
    runs = allocated(extents, source.size, options.cluster_size)
    counted = CountedSource(source, control.counts)
    if options.image_format == "raw":
        return Image(
            lambda _: content(counted, lambda: whole_disk(extents)), control, size=source.size
        )
    builder = _Qcow2(counted, extents, runs, options, control)
    compression = options.compression
    if compression != "none":
        ratio = sample_ratio(counted, runs, options.cluster_size, control)
        if compression != "auto":
            return builder.compressed(compression, ratio)
        if pays(ratio, options.workers, control.limit):
            return builder.compressed("zstd", ratio)
    if not options.find_zeroes:
        return builder.plain()
    ratio = sample_ratio(counted, runs, options.cluster_size, control, CODECS["none"])
    return builder.compressed("none", ratio)


class _Qcow2:
    """The ways to a qcow2 image of one disk."""

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
        self._control = control

    def plain(self) -> Image:
        """Everything that has data, as it is."""
        layout = Layout(self._source.size, self._runs, cluster_size=self._options.cluster_size)
        return Image(
            lambda _: chain(layout.tables(), self._content()), self._control, size=layout.size
        )

    def compressed(self, compression: str, ratio: float) -> Image:
        """Everything that has anything but zeroes, compressed while it is sent, or as it is.

        :param ratio: what is to be expected of the compression.
        """
        codec = CODECS[compression]
        size = self._options.cluster_size
        expected = int(self._runs.total * size * ratio * _EXPECTED)
        layout = GrowingLayout(
            self._source.size,
            self._runs,
            expected,
            cluster_size=size,
            compression_type=codec.header_type,
        )
        self._control.total = self._runs.total * size

        def pieces(control: Control) -> Iterator[Piece]:
            clusters = compressed(
                self._content(),
                self._numbers(),
                codec,
                cluster_size=size,
                workers=self._options.workers,
                control=control,
            )
            return layout.pieces(
                clusters,
                lambda runs: self._as_they_are(runs, control),
                self._options.spool_memory,
            )

        return Image(pieces, self._control, compression=compression)

    def _content(self) -> Iterator[Piece]:
        return content(
            self._source, lambda: whole_clusters(self._extents, self._options.cluster_size)
        )

    def _as_they_are(self, runs: Runs, control: Control) -> Iterator[Piece]:
        size = self._options.cluster_size
        for piece in content(self._source, lambda: chosen_clusters(runs, self._source.size, size)):
            control.advance(len(piece))
            yield piece

    def _numbers(self) -> Iterator[int]:
        for first, count in self._runs:
            yield from range(first, first + count)
