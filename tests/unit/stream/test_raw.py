# SPDX-License-Identifier: Apache-2.0
"""Raw images."""

from hypothesis import given, settings

from nova_snap.stream.content import READ_THROUGH
from nova_snap.stream.file_source import MemorySource
from nova_snap.stream.pipeline import Options, open_image
from nova_snap.stream.raw import whole_disk
from nova_snap.stream.source import Extent
from tests.unit.stream.disks import MIB, TIB, disk_bytes, disks


@settings(max_examples=40, deadline=None)
@given(disks(largest=20 * MIB))
def test_it_is_the_disk(source: MemorySource) -> None:
    with open_image(source, Options(image_format="raw")) as image:
        made = b"".join(iter(lambda: image.read(MIB), b""))
        assert image.size == source.size
    assert made == disk_bytes(source, 0, source.size)


@settings(max_examples=40, deadline=None)
@given(disks())
def test_its_parts_are_the_whole_disk(source: MemorySource) -> None:
    end = 0
    for offset, length, _ in whole_disk(source.extents()):
        assert offset == end
        assert length > 0
        end += length
    assert end == source.size


def test_short_zeroes_are_cheaper_to_read_than_to_leave_out() -> None:
    source = MemorySource(MIB, {0: b"x", READ_THROUGH: b"y"})
    assert list(whole_disk(source.extents())) == [
        Extent(0, READ_THROUGH + 1, True),
        Extent(READ_THROUGH + 1, MIB - READ_THROUGH - 1, False),
    ]


def test_zeroes_are_not_read() -> None:
    source = MemorySource(8 * TIB, {TIB: b"x" * 512, TIB + 512 + READ_THROUGH: b"y"})
    parts = list(whole_disk(source.extents()))
    assert [part for part in parts if part.data] == [
        Extent(TIB, 512, True),
        Extent(TIB + 512 + READ_THROUGH, 1, True),
    ]
