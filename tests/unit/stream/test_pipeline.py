# SPDX-License-Identifier: Apache-2.0
"""From a disk to an image, whole."""

import threading
import time
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_snap.stream.control import Control
from nova_snap.stream.file_source import MemorySource
from nova_snap.stream.image import Image
from nova_snap.stream.image_errors import (
    LayoutUnsupported,
    SourceStalled,
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
    found = Qcow2(data, gap=True)
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
        assert len(data) == image.tell()
        assert image.size == (len(data) if compression == "none" else None)
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
    some_disk: MemorySource, compression: str
) -> None:
    with open_image(some_disk, Options(compression=compression)) as image:
        found = is_image_of(all_of(image), some_disk)
        counts = image.counts
    assert found.header["compression_type"] == {"zlib": 0, "zstd": 1}[compression]
    assert found.compressed() + counts.verbatim_clusters == len(found.entries)
    touched = clusters_with_data(some_disk.extents())
    assert len(found.entries) + counts.zero_clusters == len(touched)
    assert min(found.compressed(), counts.verbatim_clusters, counts.zero_clusters) > 50
    # Each is read once, and those of the sample once more.
    assert counts.read == pytest.approx((len(touched) + 64) * CLUSTER, rel=0.02)
    assert counts.sent == len(found.image)


@pytest.mark.parametrize("spool_memory", [1, 64 * MIB])
@settings(max_examples=50, deadline=None)
@given(source=disks())
def test_zeroes_that_are_looked_for(spool_memory: int, source: MemorySource) -> None:
    options = Options(compression="none", find_zeroes=True, spool_memory=spool_memory, workers=2)
    with open_image(source, options) as image:
        found = is_image_of(all_of(image), source)
    assert found.compressed() == 0


@pytest.mark.parametrize("compression", ["none", "auto"])
def test_a_device_that_does_not_know_where_it_has_no_data(compression: str) -> None:
    """The image is no longer than what it holds, give or take what the sample was off by."""
    noise, empty = content(8 * MIB, "random", 1), bytes(8 * MIB)
    source = MemorySource(40 * MIB, {0: noise + empty + noise + empty + empty})
    options = Options(compression=compression, find_zeroes=True)
    with open_image(source, options) as image:
        found = is_image_of(all_of(image), source)
        assert image.size is None
        assert image.counts.zero_clusters == 24 * MIB // CLUSTER
    assert len(found.entries) == 16 * MIB // CLUSTER
    assert len(found.image) < 18 * MIB


@pytest.mark.parametrize(
    "kind", ["qcow2-none", "qcow2-none-zeroes", "qcow2-zlib", "qcow2-zstd", "raw-none"]
)
def test_an_upload_that_starts_again_sends_the_same(kind: str) -> None:
    source = MemorySource(30 * MIB, {12345: mixed(9 * MIB, 1), 20 * MIB: mixed(3 * MIB, 2)})
    image_format, compression, *zeroes = kind.split("-")
    options = Options(
        image_format=image_format,
        compression=compression,
        spool_memory=MIB,
        find_zeroes=bool(zeroes),
    )
    with open_image(source, options) as image:
        whole = all_of(image)
        for broken_at in (0, 1, 70_000, len(whole) // 2, len(whole) - 1, len(whole)):
            image.rewind()
            while image.tell() < broken_at:
                assert image.read(min(broken_at - image.tell(), MIB))
            image.rewind()
            assert all_of(image) == whole


def test_what_could_not_be_held_is_stored_as_it_is() -> None:
    """A disk that becomes dearer than its sample said: all of it is there, and it is not much
    longer."""
    text, digits = content(30 * MIB, "text", 1), content(4 * MIB, "random", 2).hex().encode()
    source = MemorySource(GIB, {0: text, 100 * MIB: digits})
    sizes = {}
    for spool in (0, MIB, 64 * MIB):
        with open_image(source, Options(compression="zstd", spool_memory=spool)) as image:
            sizes[spool] = len(is_image_of(all_of(image), source).image)
    assert sizes[0] > sizes[64 * MIB]
    assert sizes[0] < sizes[64 * MIB] + 8 * MIB


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


@pytest.mark.parametrize("spool", [0, 64 * MIB])
@pytest.mark.parametrize("compression", EVERY)
def test_progress_only_grows_and_ends_at_the_total(
    some_disk: MemorySource, compression: str, spool: int
) -> None:
    seen: list[tuple[int, int]] = []
    control = Control(progress=lambda done, total: seen.append((done, total)))
    options = Options(compression=compression, spool_memory=spool)
    with open_image(some_disk, options, control) as image:
        assert seen == []
        all_of(image)
        first, seen[:] = list(seen), []
        image.rewind()
        all_of(image)
    for tries in (first, seen):
        shares = [done / total for done, total in tries]
        assert shares == sorted(shares)
        assert shares[-1] == 1
        assert len(shares) > 15


def test_the_limit_holds_for_reading_and_for_sending() -> None:
    source = MemorySource(GIB, {0: content(10 * MIB, "random", 1)})
    for compression in ("none", "zstd"):
        clock = Clock()
        control = Control(throttle=Throttle(MIB, clock=clock, sleep=clock.sleep))
        with open_image(source, Options(compression=compression), control) as image:
            all_of(image)
        took = clock.now - 1000
        assert 10 <= took < 11, f"{compression} took {took} s"


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


class Halting(Clock):
    """Whoever sleeps from a certain moment on sleeps for ever, and looks around meanwhile.

    :ivar halted: set when somebody does.
    """

    def __init__(self, after: float) -> None:
        super().__init__()
        self.halted = threading.Event()
        self.end: float | None = self.now + after

    def sleep(self, seconds: float) -> None:
        if self.end is None or self.now < self.end:
            super().sleep(seconds)
        else:
            self.halted.set()
            threading.Event().wait(0.01)


# Where an upload breaks while nothing has come for long: the data behind 1 MiB of noise, how it is
# compressed, how much of it is held, and how many MiB of the disk the limit lets be read.
SILENCES = {
    "a stretch": (content(10 * MIB, "random", 2).hex().encode(), "zstd", 64 * MIB, 6),
    "zeroes": (bytes(20 * MIB), "none", 64 * MIB, 8),
    "what is held": (content(80 * MIB, "random", 2), "zstd", 64 * MIB, 80.5),
    "what is stored as it is": (content(20 * MIB, "random", 2), "zstd", 1, 21.5),
}


@pytest.mark.parametrize("name", SILENCES)
def test_an_upload_that_breaks_in_a_long_silence_starts_again(name: str) -> None:
    """The limit is such that the next block would take for ever."""
    data, compression, hold, allowed = SILENCES[name]
    source = MemorySource(GIB, {0: content(MIB, "random", 1) + data})
    options = Options(compression=compression, spool_memory=hold, find_zeroes=True, workers=1)
    clock = Halting(allowed)

    def breaks() -> bool:
        if clock.halted.is_set() and threading.current_thread() is threading.main_thread():
            raise BrokenPipeError
        return False

    throttle = Throttle(MIB, clock=clock, sleep=clock.sleep)
    with open_image(source, options, Control(cancelled=breaks, throttle=throttle)) as image:
        try:
            with pytest.raises(BrokenPipeError):
                all_of(image)
            image.rewind()
        finally:
            clock.end = None
            clock.halted.clear()
        is_image_of(all_of(image), source)


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


def test_an_error_of_the_disk_reaches_the_reader() -> None:
    class Broken(MemorySource):
        def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
            yield from list(super().read(ranges))[:3]
            raise ConnectionResetError("the server is gone")

    source = Broken(GIB, {0: content(20 * MIB, "text", 1)})
    for compression in ("none", "zstd"):
        options = Options(compression=compression)
        with pytest.raises(ConnectionResetError), open_image(source, options) as image:
            all_of(image)


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
