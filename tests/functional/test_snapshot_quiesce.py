# SPDX-License-Identifier: Apache-2.0
"""A real agent in a real guest freezes its file systems, or fails to."""

import contextlib
import threading
import time

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt.guest import Guest as LibvirtGuest
from tests.fixtures import disk_image
from tests.functional import snapshot_parts as parts

AGENT = {"hw_qemu_guest_agent": "yes"}
REQUIRED = {**AGENT, "os_require_quiesce": "yes"}


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def guest(lab):
    """A guest that writes all the time and has an agent."""
    made = lab.define_guest("quiesce", lab.make_disk())
    made.start()
    made.wait_ready()
    made.wait_agent()
    made.start_writer()
    return made


@pytest.fixture(params=["mirror", "mirror-undefine"])
def world(request, lab, tmp_path):
    with parts.open_world(lab, tmp_path, request.param) as made:
        yield made


@pytest.fixture
def any_world(lab, tmp_path):
    with parts.open_world(lab, tmp_path) as made:
        made.set(agent_timeout=1, thaw_timeout=1)
        yield made


@contextlib.contextmanager
def hanging_agent(guest):
    """The agent does not answer, though its channel is open."""
    signal_agent(guest, "STOP")
    try:
        yield
    finally:
        signal_agent(guest, "CONT")
        guest.wait_agent()


def signal_agent(guest, signal):
    guest.run(f"killall -{signal} qemu-ga")


def assert_writes(guest):
    """Its file systems are not frozen: the writer goes on."""
    guest.wait_agent()
    assert guest.agent("guest-fsfreeze-status") == "thawed"
    before = guest.counter()
    deadline = time.monotonic() + 20
    while guest.counter() == before:
        assert time.monotonic() < deadline, "the guest does not write any more"


@pytest.mark.parametrize("properties", [AGENT, REQUIRED], ids=["agent", "required"])
def test_image_of_frozen_file_systems(guest, world, properties):
    """No journal has to be replayed: that is what a freeze is for."""
    taken = world.snapshot(guest, **properties)
    assert taken.report.quiesced
    with disk_image.raw_view(taken.path, taken.format) as image:
        assert image.fsck().state == "clean"
        assert image.writer_state().problems == ()
    assert_writes(guest)


def test_no_freeze_is_asked_for(guest, any_world):
    assert not any_world.snapshot(guest).report.quiesced


def test_agent_that_hangs(guest, any_world, caplog):
    """The snapshot goes on; what libvirt had sent to the agent leaves nothing frozen behind."""
    with hanging_agent(guest):
        taken = any_world.snapshot(guest, **AGENT)
        assert not taken.report.quiesced
    assert "goes on without a freeze" in caplog.text
    assert_writes(guest)
    with disk_image.raw_view(taken.path, taken.format) as image:
        assert image.fsck().damage == ""


def test_agent_that_hangs_but_is_required(guest, any_world):
    with hanging_agent(guest), pytest.raises(exception.SnapshotFailed) as caught:
        any_world.snapshot(guest, **REQUIRED)
    assert isinstance(caught.value.__cause__, exception.AgentError)
    assert (caught.value.method, caught.value.phase) == ("mirror", "image_pending_upload")
    assert_writes(guest)
    assert any_world.images.metadata == {}


def test_agent_that_hangs_just_before_the_freeze(guest, any_world, caplog, monkeypatch):
    """The worst case: nobody waits for the freeze any more when the agent wakes up and does it."""
    any_world.set(thaw_timeout=60)
    freeze = LibvirtGuest.freeze

    def freeze_late(self, seconds):
        signal_agent(guest, "STOP")
        waker = threading.Timer(3, signal_agent, (guest, "CONT"))
        waker.start()
        try:
            return freeze(self, seconds)
        except exception.AgentUnresponsive:
            waker.join()
            raise

    monkeypatch.setattr(LibvirtGuest, "freeze", freeze_late)
    assert not any_world.snapshot(guest, **AGENT).report.quiesced
    assert "goes on without a freeze" in caplog.text
    assert_writes(guest)


@pytest.mark.parametrize("way", ["mirror", "managed_save"])
def test_quiesce_of_a_paused_guest(guest, lab, tmp_path, way):
    """Nobody in it can answer: an error if it is required, no freeze if not."""
    guest.suspend()
    try:
        with parts.open_world(lab, tmp_path, way) as world:
            with pytest.raises(exception.SnapshotFailed) as caught:
                world.snapshot(guest, **REQUIRED)
            assert "paused" in caught.value.reason or "requires a quiesce" in caught.value.reason
            assert caught.value.phase == "image_snapshot"
            assert not world.snapshot(guest, **AGENT).report.quiesced
    finally:
        guest.resume()
    assert_writes(guest)


def test_agent_required_but_not_promised(guest, any_world):
    with pytest.raises(exception.SnapshotFailed, match="hw_qemu_guest_agent is not set"):
        any_world.snapshot(guest, os_require_quiesce="yes")


def test_guest_without_an_agent(lab, any_world, caplog):
    """No channel at all, and a channel that nobody has opened: no time is lost on either."""
    for name, agent in (("no-channel", False), ("no-agent", True)):
        other = lab.define_guest(name, lab.make_disk(name=name), agent=agent)
        other.start(paused=True)
        other.resume()
        with pytest.raises(exception.SnapshotFailed, match="channel"):
            any_world.snapshot(other, **REQUIRED)
        assert not any_world.snapshot(other, **AGENT).report.quiesced
        assert "is not quiesced" in caplog.text
        caplog.clear()
        other.remove()
