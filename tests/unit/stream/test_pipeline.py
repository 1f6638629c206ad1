# SPDX-License-Identifier: Apache-2.0
"""From a disk to an image, whole."""

import pathlib
import threading
import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_snap.image.upload import HashingReader
from nova_snap.stream.control import Control
from nova_snap.stream.file_source import MemorySource
from nova_snap.stream.image import Image
from nova_snap.stream.image_errors import (
    LayoutUnsupported,
    SourceStalled,
    SpoolFailed,
    StreamCancelled,
)
from nova_snap.stream.pipeline import Options, open_image
from nova_snap.stream.throttle import Throttle
from tests.unit.stream.disks import (
    CLUSTER,
    GIB,
    MIB,
    TIB,
    clusters_with_data,
    content,
    disk_bytes,
    disks,
    mixed,
)
from tests.unit.stream.qcow2_reader import Qcow2
from tests.unit.stream.test_spool import files_in
from tests.unit.stream.test_throttle import Clock

EVERY = ("none", "zlib", "zstd")


def all_of(image: Image, at_once: int = MIB) -> bytes:
    parts = []
    while part := image.read(at_once):
        assert len(part) <= at_once
        parts.append(part)
    assert image.read(at_once) == b""
    return b"".join(parts)


def is_image_of(data: bytes, source: MemorySource) -> Qcow2:
    found = Qcow2(data)
    assert found.header["size"] == -(-source.size // 512) * 512
    touched = clusters_with_data(source.extents(), found.cluster_size)
    assert set(found.entries) <= touched
    for number in touched:
        wanted = disk_bytes(source, number * found.cluster_size, found.cluster_size)
        assert found.cluster(number) == wanted, f"cluster {number}"
    return found


@pytest.fixture
def some_disk() -> MemorySource:
    """20 MiB of all kinds of data, here and there on 3 TiB."""
    return MemorySource(
        3 * TIB + 100,
        {12345: mixed(9 * MIB, 1), TIB: mixed(11 * MIB, 2), 3 * TIB: content(100, "random", 3)},
    )


@pytest.mark.parametrize("compression", EVERY)
@settings(max_examples=50, deadline=None)
@given(source=disks(), at_once=st.sampled_from([1000, CLUSTER, MIB]))
def test_any_disk(compression: str, source: MemorySource, at_once: int) -> None:
    options = Options(compression=compression, workers=2, spool_memory=100_000)
    with open_image(source, options) as image:
        data = all_of(image, at_once)
        assert len(data) == image.size == image.tell()
        is_image_of(data, source)


@pytest.mark.parametrize("cluster_size", [128 << 10, 2 * MIB])
@pytest.mark.parametrize("compression", EVERY)
def test_larger_clusters(some_disk: MemorySource, compression: str, cluster_size: int) -> None:
    with open_image(
        some_disk, Options(compression=compression, cluster_size=cluster_size)
    ) as image:
        is_image_of(all_of(image), some_disk)


@pytest.mark.parametrize("compression", ["zlib", "zstd"])
def test_compressed_ones_leave_out_zeroes_and_keep_noise(
    some_disk: MemorySource, compression: str, tmp_path: pathlib.Path
) -> None:
    options = Options(compression=compression, spool_memory=0, spool_directory=str(tmp_path))
    with open_image(some_disk, options) as image:
        found = is_image_of(all_of(image), some_disk)
        counts = image.counts
    assert found.header["compression_type"] == {"zlib": 0, "zstd": 1}[compression]
    assert found.compressed() + counts.verbatim_clusters == len(found.entries)
    touched = clusters_with_data(some_disk.extents())
    assert len(found.entries) + counts.zero_clusters == len(touched)
    assert min(found.compressed(), counts.verbatim_clusters, counts.zero_clusters) > 50
    # What is stored as it is was read twice, and what is zero or compressed once.
    assert counts.read == pytest.approx(
        (len(touched) + counts.verbatim_clusters) * CLUSTER, rel=0.02
    )
    assert counts.sent == image.size


def test_nothing_is_marked_compressed_where_nothing_is() -> None:
    source = MemorySource(GIB, {0: content(MIB, "random", 1)})
    with open_image(source, Options(compression="zstd")) as image:
        assert is_image_of(all_of(image), source).header["incompatible_features"] == 0


@pytest.mark.parametrize("kind", ["qcow2-none", "qcow2-zlib", "qcow2-zstd", "raw-none"])
def test_an_upload_that_starts_again_sends_the_same(kind: str) -> None:
    source = MemorySource(30 * MIB, {12345: mixed(9 * MIB, 1), 20 * MIB: mixed(3 * MIB, 2)})
    image_format, compression = kind.split("-")
    options = Options(image_format=image_format, compression=compression, spool_memory=MIB)
    with open_image(source, options) as image:
        reader = HashingReader(image, image.size)
        digests = []
        for broken_at in (0, 1, 70_000, image.size // 2, image.size - 1, image.size):
            reader.rewind()
            while (read := image.tell()) < broken_at:
                assert reader.read(min(broken_at - read, MIB))
            reader.rewind()
            while reader.read(MIB):
                pass
            assert reader.complete
            digests.append(reader.hexdigest())
    assert len(set(digests)) == 1


def test_only_the_beginning_can_be_sought(some_disk: MemorySource) -> None:
    with open_image(some_disk, Options(compression="none")) as image:
        assert image.seek(0) == 0
        for where in ((1,), (0, 1), (0, 2)):
            with pytest.raises(ValueError, match="only rewinds to 0"):
                image.seek(*where)


@pytest.mark.parametrize(
    ("kind", "chosen"), [("random", "none"), ("text", "zstd"), ("zeroes", "zstd")]
)
def test_auto_compresses_where_it_pays(kind: str, chosen: str) -> None:
    source = MemorySource(GIB, {MIB: content(8 * MIB, kind, 1)})
    with open_image(source, Options(compression="auto", workers=2)) as image:
        assert image.compression == chosen
        is_image_of(all_of(image), source)


@pytest.mark.parametrize("compression", EVERY)
def test_progress_only_grows_and_ends_at_the_total(
    some_disk: MemorySource, compression: str
) -> None:
    seen: list[tuple[int, int]] = []
    control = Control(progress=lambda done, total: seen.append((done, total)))
    with open_image(some_disk, Options(compression=compression), control) as image:
        prepared = len(seen)
        all_of(image)
        assert (prepared > 0) is (compression != "none")
        image.rewind()
        seen_once = list(seen)
        all_of(image)
    shares = [done / total for done, total in seen_once]
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) > 15
    # The second try goes on from where the first began.
    assert seen[len(seen_once) :] == seen_once[prepared:]


def test_the_limit_holds_for_reading_and_for_sending() -> None:
    source = MemorySource(GIB, {0: content(10 * MIB, "random", 1)})
    for compression, times in (("none", 1), ("zstd", 2)):
        clock = Clock()
        control = Control(throttle=Throttle(MIB, clock=clock, sleep=clock.sleep))
        with open_image(source, Options(compression=compression), control) as image:
            all_of(image)
        took = clock.now - 1000
        assert 10 * times < took < 10 * times + 1, f"{compression} took {took} s"


class Stuck(MemorySource):
    """Its reads wait once they have given something."""

    def __init__(self) -> None:
        super().__init__(GIB, {0: content(64 * MIB, "text", 1)})
        self.stuck = threading.Event()
        self.free = threading.Event()

    def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        for number, piece in enumerate(super().read(ranges)):
            yield piece
            if number == 9:
                self.stuck.set()
                assert self.free.wait(30)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_cancelled_image_stops_while_its_disk_hangs(compression: str) -> None:
    source = Stuck()
    cancel = threading.Event()
    control = Control(cancelled=cancel.is_set)
    cancelled_at: list[float] = []

    def cancel_when_stuck() -> None:
        assert source.stuck.wait(30)
        cancelled_at.append(time.monotonic())
        cancel.set()

    thread = threading.Thread(target=cancel_when_stuck)
    thread.start()
    try:
        with pytest.raises(StreamCancelled, match=r"cancelled after \d+ bytes"):
            all_of(open_image(source, Options(compression=compression), control))
        # It waits half a second for the thread that reads, and then leaves it to its time limit.
        assert time.monotonic() - cancelled_at[0] < 2
    finally:
        source.free.set()
        thread.join()


def test_a_disk_that_is_still_being_read_is_not_read_again() -> None:
    source = Stuck()
    image = open_image(source, Options(compression="none"))
    try:
        while image.tell() < 8 * MIB:
            image.read(MIB)
        assert source.stuck.wait(30)
        with pytest.raises(SourceStalled, match=r"still waits after 0\.5 s"):
            image.rewind()
    finally:
        source.free.set()
    image.rewind()
    is_image_of(all_of(image), source)
    image.close()


def test_a_cancelled_image_is_not_begun(some_disk: MemorySource) -> None:
    with pytest.raises(StreamCancelled, match="cancelled after 0 bytes"):
        open_image(some_disk, Options(), Control(cancelled=lambda: True))


def test_a_slow_image_is_cancelled_while_it_waits(some_disk: MemorySource) -> None:
    clock = Clock()
    control = Control(
        cancelled=lambda: clock.now >= 1005,
        throttle=Throttle(1, clock=clock, sleep=clock.sleep),
    )
    with (
        open_image(some_disk, Options(compression="none"), control) as image,
        pytest.raises(StreamCancelled),
    ):
        all_of(image)
    assert clock.now < 1006


def test_a_cancelled_compression_leaves_no_spool(tmp_path: pathlib.Path) -> None:
    source = MemorySource(GIB, {0: content(20 * MIB, "random", 2).hex().encode()})
    spooled: list[int] = []

    def cancelled() -> bool:
        spooled.append(len(files_in(tmp_path)))
        return control.done > 30 * MIB

    control = Control(cancelled=cancelled)
    options = Options(compression="zstd", spool_memory=0, spool_directory=str(tmp_path))
    with pytest.raises(StreamCancelled):
        open_image(source, options, control)
    assert max(spooled) == 1
    assert files_in(tmp_path) == []


def test_the_spool_is_gone_with_its_image(tmp_path: pathlib.Path) -> None:
    noise = content(300, "random", 1)
    # Every cluster differs, and none compresses well: 12 MiB of hexadecimal digits.
    data = content(6 * MIB, "random", 2).hex().encode() + noise
    source = MemorySource(GIB, {0: data})
    options = Options(compression="zstd", spool_memory=2 * MIB, spool_directory=str(tmp_path))
    with open_image(source, options) as image:
        assert image.counts.spool_disk > 3 * MIB
        assert image.counts.spool_memory <= 3 * MIB
        assert len(files_in(tmp_path)) == 1
        assert list(tmp_path.iterdir()) == []
        is_image_of(all_of(image), source)
    assert files_in(tmp_path) == []


def test_no_room_for_the_spool(tmp_path: pathlib.Path) -> None:
    data = content(3 * MIB, "random", 2).hex().encode()
    options = Options(compression="zstd", spool_memory=0, spool_directory=str(tmp_path / "missing"))
    with pytest.raises(SpoolFailed, match="missing after 0 bytes: No such file or directory"):
        open_image(MemorySource(GIB, {0: data}), options)


def test_an_error_of_the_disk_reaches_the_reader() -> None:
    class Broken(MemorySource):
        def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
            yield from list(super().read(ranges))[:3]
            raise ConnectionResetError("the server is gone")

    source = Broken(GIB, {0: content(20 * MIB, "text", 1)})
    with open_image(source, Options(compression="none")) as image:
        with pytest.raises(ConnectionResetError):
            all_of(image)
        assert image.tell() < image.size
    with pytest.raises(ConnectionResetError):
        open_image(source, Options(compression="zstd"))


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"image_format": "vmdk"}, ValueError, "image_format 'vmdk': it must be one of qcow2, raw"),
        ({"compression": "lzma"}, ValueError, "compression 'lzma': .* auto, none, zlib, zstd"),
        ({"workers": 0}, ValueError, "workers 0: it must be 1 or more"),
        ({"cluster_size": 4096}, LayoutUnsupported, "Cluster size 4096"),
    ],
)
def test_options_that_are_none(
    wrong: dict[str, object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        Options(**wrong)  # type: ignore[arg-type]
