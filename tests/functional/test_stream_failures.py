# SPDX-License-Identifier: Apache-2.0
"""Whatever fails while a disk is streamed, the guest goes on, nothing stays, the next one works."""

import threading
import time

import pytest

from nova_snap import exception
from tests.fixtures import disk_image
from tests.fixtures.commands import run
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts
from tests.functional.stream_parts import MIB


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def guest(lab):
    """A guest that runs and writes."""
    return parts.writing_guest(lab, "failures", "failures")


@pytest.fixture
def world(guest, tmp_path):
    with stream_parts.proven_world(guest, tmp_path) as made:
        yield made


def hang_up():
    raise stream_parts.Disconnected("connection reset by peer")


class TestImageService:
    def test_refuses(self, guest, world):
        def refuse():
            raise exception.ImageServiceUnavailable(endpoint="http://glance", reason="503")

        world.images.on_update = refuse
        error = world.fails(guest)
        assert (error.method, error.phase) == ("stream", "image_uploading")
        assert "http://glance cannot be reached: 503" in error.reason

    def test_hangs_up_midway(self, guest, world):
        world.images.on_bytes = stream_parts.once(hang_up)
        error = world.fails(guest)
        assert (error.method, error.phase) == ("stream", "image_uploading")
        assert isinstance(error.__cause__, stream_parts.Disconnected)
        assert world.images.metadata == {}

    @pytest.mark.parametrize("compression", ["none", "zstd"])
    def test_starts_again_from_the_same_moment(self, guest, world, tmp_path, compression):
        """The guest is let go after the point in time, and overwrites what is not sent yet."""
        world.set(snapshot_compression=compression)
        world.images.tries = 3
        reference = tmp_path / "reference"
        guest.suspend()
        run("qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", guest.disk.path, reference)
        world.images.on_update = guest.resume

        def write_and_hang_up():
            stream_parts.wait_counter(guest, guest.counter() + 10)
            hang_up()

        def on_bytes(number, taken):
            if number < 3 and taken >= number * MIB:
                write_and_hang_up()

        world.images.on_bytes = on_bytes
        taken = world.take(guest)
        assert world.images.numbers == [1, 2, 3]
        assert disk_image.check(taken.path, "qcow2") == ""
        assert disk_image.differences(taken.path, "qcow2", reference, "raw") == ""
        assert world.leftovers() == []

    def test_stalls(self, guest, world):
        """For longer than the hypervisor may take to answer: it is not the one that is late."""
        world.set(snapshot_read_timeout=1)
        began = time.monotonic()

        def stall():
            while time.monotonic() < began + 3:
                stream_parts.wait_counter(guest, guest.counter() + 1)

        world.images.on_bytes = stream_parts.once(stall)
        stream_parts.assert_instant(world.snapshot(guest))
        assert time.monotonic() >= began + 3


class Deletion:
    """A monitor of a snapshot whose image is deleted, or that is cancelled for another reason."""

    def __init__(self, tells: bool, error: exception.NovaSnapError | None = None) -> None:
        """:param tells: calls back at once, and does not only answer when it is asked."""
        self.at = 0.0
        self._error = error or exception.ImageNotFound(image_id="image")
        self._tells = tells
        self._callbacks = []

    def delete(self) -> None:
        self.at = time.monotonic()
        if self._tells:
            for callback in self._callbacks:
                callback()

    def progress(self, done: int, total: int) -> None:
        """Nobody looks."""

    def check(self) -> None:
        if self.at:
            raise self._error

    def on_cancel(self, callback) -> None:
        self._callbacks.append(callback)


@pytest.mark.parametrize(
    "error",
    [exception.SnapshotTimeout(seconds=1), exception.ServiceStopping()],
    ids=["too-long", "service-stops"],
)
def test_it_is_cancelled_by_the_service_itself(guest, world, error):
    """What else must be so after a failure, the fixture looks at."""
    monitor = Deletion(tells=True, error=error)
    world.images.on_bytes = stream_parts.once(monitor.delete, taken=MIB)
    assert world.fails(guest, monitor) is error


class TestImageIsDeleted:
    @pytest.mark.parametrize("tells", [True, False], ids=["told", "asked"])
    @pytest.mark.parametrize("bandwidth", [0, 1], ids=["unlimited", "throttled"])
    def test_while_it_is_sent(self, guest, world, bandwidth, tells):
        world.set(snapshot_bandwidth=bandwidth)
        monitor = Deletion(tells)
        world.images.on_bytes = stream_parts.once(monitor.delete, taken=MIB)
        ended = []
        take = world.images._take

        def watch(*arguments):
            try:
                return take(*arguments)
            finally:
                ended.append(time.monotonic())

        world.images._take = watch
        assert isinstance(world.fails(guest, monitor), exception.ImageNotFound)
        assert ended[0] - monitor.at < 1

    @pytest.mark.parametrize("tells", [True, False], ids=["told", "asked"])
    def test_while_it_is_compressed(self, guest, world, tells):
        """The slow reading is not waited for."""
        world.set(snapshot_compression="zstd", snapshot_bandwidth=1)
        monitor = Deletion(tells)
        states = parts.States()
        timer = threading.Timer(1, monitor.delete)
        states.on["image_uploading"] = timer.start
        assert isinstance(world.fails(guest, monitor, states), exception.ImageNotFound)
        assert time.monotonic() - monitor.at < 5
        assert world.images.metadata == {}

    @pytest.mark.parametrize("phase", ["image_pending_upload", "image_uploading"])
    def test_instance_is_taken_away(self, guest, world, phase):
        def gone():
            raise exception.UnexpectedTaskState(instance_uuid="x", expected=[], actual="deleting")

        states = parts.States()
        states.on[phase] = gone
        error = world.fails(guest, states=states)
        assert isinstance(error, exception.UnexpectedTaskState)
        assert world.images.numbers == []


class TestScratch:
    @pytest.fixture
    def ballast(self, guest):
        """24 MiB of the guest that it can overwrite, and that the image needs as they were."""
        guest.run(
            "while cat /bin/busybox; do :; done 2> /dev/null"
            " | dd of=/data/ballast bs=1M count=24 iflag=fullblock conv=fsync"
        )
        yield
        guest.run("rm -f /data/ballast; sync")

    def test_fills(self, guest, world, ballast):
        """The snapshot gives way; no write of the guest fails. All of them would not fit."""
        world.set(snapshot_bandwidth=1, snapshot_scratch_reserve=10)
        overwrite = (
            "for i in $(seq 0 23); do"
            " head -c 1048576 /dev/zero | dd of=/data/ballast bs=1M seek=$i conv=notrunc,fsync"
            " || touch /run/failed; usleep 100000; done; touch /run/done"
        )
        start = f"{{ setsid sh -c '{overwrite}' > /dev/null 2>&1 < /dev/null & }}"
        world.images.on_update = lambda: guest.run(start)
        with stream_parts.small_file_system(world.snapshots, 20):
            error = world.fails(guest)
            assert isinstance(error.__cause__, exception.ScratchFull)
            assert "10 MiB must stay free" in error.reason
            assert error.phase == "image_uploading"
        guest.run("while [ ! -e /run/done ]; do usleep 100000; done", 120)
        guest.run("[ ! -e /run/failed ]")
        assert guest.state()["state"] == "running"

    def test_too_small_from_the_start(self, guest, world, caplog):
        """The guest is not even touched."""
        world.set(snapshot_scratch_reserve=64)
        states = parts.States()
        with stream_parts.small_file_system(world.snapshots, 32):
            error = world.fails(guest, states=states)
        assert isinstance(error.__cause__, exception.ScratchFull)
        assert error.phase == "image_snapshot"
        assert states.seen == []

    def test_what_it_took_is_told(self, guest, world, ballast):
        """As much as was overwritten while the image was sent, and no more."""
        size = 8 * MIB

        def overwrite():
            guest.run(f"head -c {size} /dev/zero | dd of=/data/ballast bs=1M conv=notrunc,fsync")

        world.images.on_update = overwrite
        taken = world.snapshot(guest)
        assert size <= taken.report.temp_bytes < 2 * size
        stream_parts.assert_instant(taken)
