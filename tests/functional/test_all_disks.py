# SPDX-License-Identifier: Apache-2.0
"""All disks of a guest at one instant; it has three, and writes to them all the time."""

import itertools
import threading

import libvirt
import pytest

from nova_snap import exception
from nova_snap.virt.driver import NoMonitor
from nova_snap.virt.libvirt.snapshot import offline
from tests.fixtures import disk_image
from tests.functional import all_disks_parts as all_disks
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts
from tests.functional.all_disks_parts import FORMATS, LEFT_OUT, QCOW2

AGENT = {"hw_qemu_guest_agent": "yes", "os_require_quiesce": "yes"}


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def _running(lab):
    made = all_disks.define(lab, "all-disks")
    made.start()
    made.wait_ready()
    made.wait_agent()
    made.start_writer()
    all_disks.start_loop(made)
    return made


@pytest.fixture
def guest(_running):
    """It runs and writes before and after each test."""
    all_disks.wait_rounds(_running)
    yield _running
    all_disks.wait_rounds(_running)
    stream_parts.assert_at_work(_running)


@pytest.fixture(scope="module")
def off(_running):
    """The same, shut off from here on."""
    all_disks.stop_loop(_running)
    _running.stop_writer()
    _running.power_off()
    return _running


@pytest.fixture
def world(lab, tmp_path):
    made = all_disks.World(lab, tmp_path)
    made.driver.init_host()
    yield made
    made.driver.close()


class TestStream:
    def test_of_one_instant(self, guest, world):
        """Though the guest writes to every disk while each of them is sent."""
        waited = []
        world.images.on_update = slowly(guest, waited)
        taken = world.take_all(guest)
        assert len(waited) == 3
        assert (taken.report.method, taken.report.quiesced) == ("stream", False)
        instant = all_disks.assert_one_instant(taken, FORMATS)
        # Two rounds for each of the images: they would differ if they were of when they were sent.
        # A round is counted as it ends, and the instant may lie within one: it is ahead by one.
        assert 0 < instant <= all_disks.current_round(guest) - 2 * len(FORMATS) + 1
        with disk_image.raw_view(taken.paths["vda"], "qcow2") as image:
            assert image.fsck().damage == ""
            assert image.writer_state().problems == ()
        assert taken.report.left_out == {disk: reason for disk, (reason, *_) in LEFT_OUT.items()}
        assert taken.report.temp_bytes > 0

    def test_quiesced_once_for_all(self, guest, world):
        taken = world.take_all(guest, **AGENT)
        assert taken.report.quiesced
        all_disks.assert_one_instant(taken, FORMATS)
        with disk_image.raw_view(taken.paths["vda"], "qcow2") as image:
            assert image.fsck().state == "clean"

    def test_compressed_into_one_format(self, guest, world):
        world.set(snapshot_image_format="qcow2", snapshot_compression="zstd")
        taken = world.take_all(guest)
        all_disks.assert_one_instant(taken, QCOW2)
        for path in taken.paths.values():
            assert disk_image.check(path, "qcow2") == ""

    @pytest.mark.parametrize("compression", ["none", "auto"])
    def test_bytes_of_a_paused_guest(self, guest, world, compression):
        world.set(snapshot_compression=compression)
        guest.suspend()
        try:
            taken = world.take_all(guest)
            all_disks.assert_same_bytes(taken, guest, FORMATS)
        finally:
            guest.resume()

    def test_what_the_images_say(self, guest, world):
        taken = world.take_all(guest)
        said = {disk: values["disk_format"] for disk, values in taken.metadata.items()}
        assert said == FORMATS
        # Only the first one is to boot from; its record has a min_disk of its own.
        assert "os_type" in taken.metadata["vda"]["properties"]
        assert "os_type" not in taken.metadata["vdb"]["properties"]
        assert [values.get("min_disk") for values in taken.metadata.values()] == [None, 1, 1]

    def test_the_progress_is_of_all(self, guest, world):
        told = []

        class Monitor(NoMonitor):
            def progress(self, done, total):
                told.append((done, total))

        taken = world.take_all(guest, Monitor())
        size = sum(path.stat().st_size for path in taken.paths.values())
        assert told[-1] == (size, size)
        assert taken.report.uploaded_bytes == size
        # Every length is known before the first byte is sent.
        assert {total for done, total in told if done} == {size}
        assert all(one[0] <= other[0] for one, other in itertools.pairwise(told))


def slowly(guest, waited):
    """Each image waits, as it begins, until the guest has overwritten all of its counters."""

    def on_update():
        all_disks.wait_rounds(guest)
        waited.append(True)

    return on_update


class TestManagedSave:
    def test_of_one_instant(self, guest, world):
        world.set(snapshot_method="managed_save")
        taken = world.take_all(guest)
        assert taken.report.method == "managed_save"
        all_disks.assert_one_instant(taken, FORMATS)
        assert [values.get("min_disk") for values in taken.metadata.values()] == [None, 1, 1]


class TestRefused:
    def test_mirror(self, guest, world):
        """Before anything is done: there is no record of another image."""
        world.set(snapshot_method="mirror")
        error = world.fails_all(guest)
        assert (error.method, error.phase) == ("none", "image_snapshot")
        assert "needs one instant for all disks, and mirror has one for each" in error.reason
        assert world.records.made == {}

    def test_no_records(self, guest, world):
        def refuse():
            raise exception.ImageTooLarge(reason="quota of images")

        world.records.on_create = refuse
        error = world.fails_all(guest)
        assert (error.method, error.phase) == ("stream", "image_snapshot")
        assert "quota of images" in error.reason
        assert world.images.numbers == []


class TestFailures:
    def test_second_upload_is_refused(self, guest, world):
        """The first was accepted: nothing is kept of it here; the compute service deletes it."""
        begun = []

        def refuse_the_second():
            begun.append(True)
            if len(begun) == 2:
                raise exception.ImageServiceUnavailable(endpoint="http://glance", reason="503")

        world.images.on_update = refuse_the_second
        error = world.fails_all(guest)
        assert error.phase == "image_uploading"
        assert error.reason.startswith("disk vdc: ")
        assert list(world.images.metadata) == [world.records.made["vdb"]]

    def test_cancelled_between_two_uploads(self, guest, world):
        cancelled = threading.Event()

        class Monitor(NoMonitor):
            def check(self):
                if cancelled.is_set():
                    raise exception.ImageNotFound(image_id="image")

        def on_update():
            if world.images.metadata:
                pytest.fail("another upload was begun")

        world.images.on_update = on_update
        done = world.images.metadata

        class Metadata(dict):
            def __setitem__(self, key, value):
                super().__setitem__(key, value)
                cancelled.set()

        world.images.metadata = Metadata(done)
        assert isinstance(world.fails_all(guest, Monitor()), exception.ImageNotFound)
        assert list(world.images.metadata) == [world.records.made["vdb"]]

    def test_scratch_fills_while_another_disk_is_sent(self, guest, world):
        """What the guest writes to the disks whose turn has not come counts, too."""
        with stream_parts.small_file_system(world.snapshots, 68):
            world.images.on_bytes = hold()
            error = world.fails_all(guest)
        assert isinstance(error.__cause__, exception.ScratchFull)
        assert error.phase == "image_uploading"
        guest.run("! dmesg | grep -qi 'i/o error'")


def hold():
    """The first image is held up until the snapshot is ended."""
    pause = threading.Event()

    def on_bytes(_number, _taken):
        pause.wait(0.2)

    return on_bytes


class TestOneDisk:
    def test_as_without_the_option(self, guest, world):
        """A caller that makes no further records gets the root disk."""
        taken = world.snapshot(guest)
        assert (taken.report.images, taken.report.method) == ({}, "stream")
        stream_parts.assert_instant(taken)

    def test_option_off(self, guest, world):
        world.set(snapshot_all_disks=False)
        instance = parts.Instance(guest.uuid, guest.name)
        report = world.driver.snapshot(
            world.context, instance, "image", parts.States(), None, world.records
        )
        assert (report.images, report.left_out, world.records.made) == ({}, {}, {})


class TestOffline:
    """The last: the guest is shut off."""

    def test_bytes(self, off, world):
        taken = world.take_all(off)
        assert taken.report.method == "offline"
        all_disks.assert_same_bytes(taken, off, FORMATS)
        all_disks.assert_one_instant(taken, FORMATS)

    @pytest.mark.parametrize("image_format", ["qcow2", "vmdk"], ids=["streamed", "converted"])
    def test_all_disks_are_locked_before_any_is_read(self, off, world, monkeypatch, image_format):
        """A guest that is started meanwhile would write to the ones that are not read yet."""
        world.set(snapshot_image_format=image_format)
        refused = []

        def start(*_arguments):
            with pytest.raises(libvirt.libvirtError, match="lock"):
                off.start()
            refused.append(True)

        def first(function):
            def wrapped(*arguments):
                if not refused:
                    start()
                return function(*arguments)

            return wrapped

        for name in ("open_content", "extract_all"):
            monkeypatch.setattr(offline, name, first(getattr(offline, name)))
        taken = world.take_all(off)
        assert refused == [True]
        all_disks.assert_same_bytes(taken, off, dict.fromkeys(FORMATS, image_format))
        assert [values.get("min_disk") for values in taken.metadata.values()] == [None, 1, 1]

    def test_one_that_is_in_use_keeps_all_from_being_read(self, off, world):
        """Somebody has the third disk open."""
        path = off.disk.path.parent / "disk.swap"
        with all_disks.in_use(path, "qcow2"):
            error = world.fails_all(off)
        assert isinstance(error.__cause__, exception.QemuNbdFailed)
        assert world.images.numbers == []
