# SPDX-License-Identifier: Apache-2.0
"""A block copy is ended, and its domain persistent, in every outcome."""

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import chain
from nova_snap.virt.libvirt.guest import BlockJob
from nova_snap.virt.libvirt.snapshot import copy_job, workdir
from nova_snap.virt.libvirt.snapshot.base import ImageRequest, Request
from nova_snap.virt.libvirt.snapshot.mirror import Mirror
from tests.unit.virt import doubles

MIB = 1 << 20


class Tool:
    """Notes what is made, and makes nothing."""

    def __init__(self):
        self.calls = []
        self.error = None

    def create_overlay(self, path, backing, virtual_size):
        self.calls.append(("overlay", [layer.format for layer in backing], virtual_size))

    def create_raw(self, path, virtual_size):
        self.calls.append(("raw", virtual_size))

    def convert(self, source, target, out_format, compress=False, on_cancel=None):
        if self.error is not None:
            raise self.error
        self.calls.append(("convert", [layer.format for layer in source], out_format))


class Scene:
    """A guest with a raw disk, and a method to take it with."""

    def __init__(self, conf, directory, caps=doubles.NEW):
        disk = directory.file("disk")
        with open(disk, "wb") as file:
            file.truncate(MIB)
        self.guest = doubles.FakeGuest(disk=disk, disk_format="raw")
        self.guest.starts_automatically = True
        self.host = doubles.FakeHost(self.guest, caps)
        self.tool = Tool()
        self.directory = directory
        self.method = Mirror(conf, self.host, self.tool, caps)
        self.options = {}

    def take(self, image_format="qcow2", begin=lambda: None, **values):
        domain = self.guest.describe()
        request = Request(
            self.guest, domain, power_state.RUNNING,
            [ImageRequest(domain.root_disk(), None, image_format)],
            self.directory, begin, **values,
        )  # fmt: skip
        return self.method.take(request)

    def assert_as_before(self):
        guest = self.guest
        assert guest.job is None
        assert guest.persistent
        assert guest.starts_automatically
        assert not guest.frozen
        assert self.directory.journal.undefined_xml is None
        assert not self.directory.journal.frozen


@pytest.fixture
def directory(conf, tmp_path):
    made = workdir.create(str(tmp_path / "snapshots"), doubles.UUID, conf.host)
    yield made
    made.close()


@pytest.fixture(params=[doubles.NEW, doubles.OLD], ids=["transient-job", "undefine"])
def scene(request, conf, directory):
    conf.set_override("thaw_timeout", 1, "libvirt")
    return Scene(conf, directory, request.param)


def test_good(scene):
    _, quiesced = scene.take(quiesce=True)
    assert quiesced
    calls = [call for call in scene.guest.changes() if call != "set_agent_timeout"]
    assert calls[-3:] in (
        ["freeze", "abort_block_job", "thaw"],
        ["abort_block_job", "thaw", "set_autostart"],
    )
    scene.assert_as_before()


def test_domain_is_never_undefined_where_it_need_not_be(conf, directory):
    scene = Scene(conf, directory, doubles.NEW)
    scene.take()
    assert scene.host.defined == []
    assert "undefine_keeping_state" not in scene.guest.calls


def test_transient_domain_stays_transient(conf, directory):
    scene = Scene(conf, directory, doubles.OLD)
    scene.guest.persistent = False
    scene.take()
    assert scene.host.defined == []
    assert not scene.guest.persistent


def test_disk_without_backing_is_copied_right_into_the_image(conf, directory):
    scene = Scene(conf, directory)
    assert scene.take("raw")[0] == directory.file("delta")
    assert scene.tool.calls == [("raw", MIB)]


def test_other_format_is_converted(conf, directory):
    scene = Scene(conf, directory)
    assert scene.take("vmdk")[0] == directory.file("image")
    assert scene.tool.calls == [("overlay", [], MIB), ("convert", ["qcow2"], "vmdk")]


def test_old_way_copies_into_the_disks_own_format(conf, directory):
    scene = Scene(conf, directory, doubles.OLD)
    scene.take("qcow2")
    assert scene.tool.calls == [("raw", MIB), ("convert", ["raw"], "qcow2")]


def test_compressed_image_is_always_converted(conf, directory):
    conf.set_override("snapshot_compression", "zlib", "libvirt")
    scene = Scene(conf, directory)
    scene.take("qcow2")
    assert scene.tool.calls[-1] == ("convert", ["qcow2"], "qcow2")


@pytest.mark.parametrize("call", ["start_copy", "block_job", "abort_block_job"])
def test_call_fails_once(scene, call):
    """Whatever fails: the guest is as before. Ending the copy is tried again."""
    nones = [None] * (2 if call == "block_job" else 0)
    scene.guest.errors[call] = [*nones, doubles.failed(call)]
    scene.guest.errors["start_rebase_copy"] = scene.guest.errors["start_copy"] = (
        [doubles.failed("blockRebase")] if call == "start_copy" else []
    )
    with pytest.raises(exception.HypervisorError):
        scene.take()
    scene.assert_as_before()


def test_start_is_late_but_happens(scene):
    """Its time was over, and then the copy has started all the same."""

    def start():
        scene.guest.job = BlockJob("copy", 0, 1)

    for call in ("start_copy", "start_rebase_copy"):
        scene.guest.before[call] = start
        scene.guest.errors[call] = exception.WaitTimeout(what="the start", seconds=1)
    with pytest.raises(exception.WaitTimeout):
        scene.take()
    scene.assert_as_before()


def test_required_freeze_fails(scene):
    scene.guest.errors["freeze"] = exception.AgentError(domain="", operation="freeze", reason="no")
    with pytest.raises(exception.AgentError):
        scene.take(quiesce=True, quiesce_required=True)
    scene.assert_as_before()


def test_pivot_fails_while_frozen(scene):
    scene.guest.errors["abort_block_job"] = [doubles.failed("blockJobAbort")]
    with pytest.raises(exception.LibvirtOperationFailed):
        scene.take(quiesce=True)
    scene.assert_as_before()


def test_snapshot_is_not_wanted_any_more(scene):
    def begin():
        raise exception.InstanceNotFound(instance_id="x")

    with pytest.raises(exception.InstanceNotFound):
        scene.take(begin=begin)
    assert scene.guest.changes() == []


def test_conversion_fails(scene):
    scene.tool.error = exception.QemuImgFailed(command="convert", exit_code=1, stderr="no space")
    with pytest.raises(exception.QemuImgFailed):
        scene.take("vdi")
    scene.assert_as_before()


def test_copy_ends_by_itself(scene):
    scene.guest.polls_until_ready = 1000
    polls = iter([None, None])

    def vanish():
        if next(polls, "end") == "end":
            scene.guest.job = None

    scene.guest.before["block_job"] = vanish
    with pytest.raises(exception.BlockJobFailed, match=r"ended before it was ready.*bytes free"):
        scene.take()
    scene.assert_as_before()


def test_guest_stops(scene):
    scene.guest.polls_until_ready = 1000
    calls = iter([None, None])

    def stop():
        if next(calls, "end") == "end":
            scene.guest.stop()

    scene.guest.before["block_job"] = stop
    with pytest.raises(exception.BlockJobFailed, match="the guest stopped"):
        scene.take()
    scene.assert_as_before()


def test_progress_that_looks_complete_is_not_believed(scene):
    """current == end from the first poll on, as QEMU has it before a job has begun."""
    scene.guest.polls_until_ready = 4
    scene.take()
    assert scene.guest.polls_until_ready <= 0


def test_time_is_over(conf, directory):
    conf.set_override("block_copy_timeout", 1, "libvirt")
    scene = Scene(conf, directory)
    scene.guest.polls_until_ready = 1000
    with pytest.raises(exception.WaitTimeout, match=r"Waited 1 s for .* \(it was at 1 of 1\)"):
        scene.take()
    scene.assert_as_before()


def test_libvirt_is_started_again_meanwhile(scene):
    lost = exception.HypervisorUnavailable(uri="", reason="end of file while reading data")
    scene.guest.errors["block_job"] = [None, lost, lost]
    scene.take()
    scene.assert_as_before()


def test_domain_cannot_be_defined_again(conf, directory, caplog):
    scene = Scene(conf, directory, doubles.OLD)
    scene.host.errors["define"] = doubles.failed("defineXML")
    with pytest.raises(exception.LibvirtOperationFailed):
        scene.take()
    assert "is LOST when it stops" in caplog.text
    assert "<source file=" in caplog.text
    assert scene.guest.job is None
    # For whoever puts it right later.
    assert directory.journal.undefined_xml


class TestStaleJobs:
    OWN = "/var/lib/nova_snap/snapshots"

    def test_none(self):
        guest = doubles.FakeGuest()
        copy_job.abort_stale_jobs(guest, "vda", self.OWN)
        assert guest.changes() == []

    @pytest.mark.parametrize("destination", [f"{OWN}/x/delta", None])
    def test_copy_is_ended(self, destination):
        guest = doubles.FakeGuest()
        guest.job = BlockJob("copy", 5, 10)
        guest.copied_to = destination
        copy_job.abort_stale_jobs(guest, "vda", self.OWN)
        assert guest.job is None

    @pytest.mark.parametrize(
        "destination", ["/var/lib/nova/instances/snapshots/tmp1/delta", f"{OWN}-too/x/delta"]
    )
    def test_copy_of_somebody_else_is_left_alone(self, destination):
        """Whoever waits for it may take one that was ended for complete."""
        guest = doubles.FakeGuest()
        guest.job = BlockJob("copy", 5, 10)
        guest.copied_to = destination
        with pytest.raises(exception.BlockJobFailed, match=f"copies the disk to {destination};"):
            copy_job.abort_stale_jobs(guest, "vda", self.OWN)
        assert guest.changes() == []

    @pytest.mark.parametrize("kind", ["pull", "commit", "active commit", "backup", "type 9"])
    def test_other_work_is_left_alone(self, kind):
        guest = doubles.FakeGuest()
        guest.job = BlockJob(kind, 5, 10)
        with pytest.raises(exception.BlockJobFailed, match=f"block job of kind {kind}"):
            copy_job.abort_stale_jobs(guest, "vda", self.OWN)
        assert guest.changes() == []

    def test_copy_that_does_not_end(self, monkeypatch):
        monkeypatch.setattr(copy_job, "_LAST_POLL", 0.001)
        guest = doubles.FakeGuest()
        guest.job = BlockJob("copy", 5, 10)
        guest.errors["abort_block_job"] = doubles.failed("blockJobAbort", "stuck")
        with pytest.raises(exception.BlockJobFailed, match=r"does not end: .*stuck"):
            copy_job.end_copy(guest, "vda")


class TestNote:
    """Of a copy: it stays as long as there may be one, for whoever puts the guest right later."""

    def test_is_there_before_the_copy(self, conf, directory):
        scene = Scene(conf, directory, doubles.NEW)
        noted = []
        scene.guest.before["start_copy"] = lambda: noted.append(directory.journal.copying)
        scene.take()
        assert noted == [directory.file("delta")]
        assert directory.journal.copying == ""

    def test_copy_that_does_not_end(self, conf, directory, monkeypatch):
        monkeypatch.setattr(copy_job, "_LAST_POLL", 0.001)
        scene = Scene(conf, directory, doubles.NEW)
        scene.guest.errors["abort_block_job"] = exception.WaitTimeout(what="it", seconds=1)
        with pytest.raises(exception.NovaSnapError):
            scene.take()
        assert directory.journal.copying == directory.file("delta")

    def test_copy_that_may_begin_late(self, conf, directory):
        scene = Scene(conf, directory, doubles.NEW)
        scene.guest.errors["start_copy"] = exception.WaitTimeout(what="blockCopy", seconds=1)
        with pytest.raises(exception.WaitTimeout):
            scene.take()
        assert directory.journal.copying == directory.file("delta")


def test_destination_names_the_whole_chain():
    layers = [chain.Layer("/a&b", "qcow2", 1), chain.Layer("/base", "raw", 1)]
    assert copy_job.destination_xml(layers) == (
        '<disk type="file"><driver name="qemu" type="qcow2"/><source file="/a&amp;b"/>'
        '<backingStore type="file"><format type="raw"/><source file="/base"/>'
        "<backingStore/></backingStore></disk>"
    )
