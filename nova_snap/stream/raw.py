# SPDX-License-Identifier: Apache-2.0
"""A raw image: the disk's bytes and nothing else, its zeroes included.

Nothing in it says where it ends or what it is: an image service that inspects uploads may take a
guest's own partition table for something else. qcow2 is the safer container, and the smaller one.
"""

from collections.abc import Iterator, Sequence

from nova_snap.stream.content import READ_THROUGH
from nova_snap.stream.source import Extent


def whole_disk(extents: Sequence[Extent]) -> Iterator[Extent]:
    """The disk from its first byte to its last; short zeroes between data count as data."""
    start = end = 0  # what was seen last and is data, not yet handed on
    for extent in extents:
        if extent.data or (end > start and extent.length < READ_THROUGH):
            end = extent.offset + extent.length
            continue
        if end > start:
            yield Extent(start, end - start, True)
        yield extent
        start = end = extent.offset + extent.length
    if end > start:
        yield Extent(start, end - start, True)
