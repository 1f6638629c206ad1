# SPDX-License-Identifier: Apache-2.0
"""The guest comes back in every outcome of a managed save, with its devices."""

import dataclasses
import json
import logging

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import devices
from nova_snap.virt.libvirt.snapshot import workdir
from nova_snap.virt.libvirt.snapshot.base import ImageRequest, Request
from nova_snap.virt.libvirt.snapshot.managed_save import ManagedSave, put_back
from tests.fixtures import logs
from tests.unit.virt import doubles

SAVED = [
    "detach_device",
    "detach_device",
    "managed_save",
    "launch",
    "attach_device",
    "attach_device",
]


class Backend:
    """Reads the disk. :ivar error: what goes wrong."""

    def __init__(self, guest):
        self.guest = guest
        self.error = None

    def chain(self):
        return ()

    def snapshot_extract(self, target, out_format, on_cancel):
        assert not self.guest.active, "the disk is read while the guest has it open"
        if self.error is not None:
            raise self.error


@pytest.fixture
def guest():
    return doubles.FakeGuest()


@pytest.fixture
def directory(conf, tmp_path):
    made = workdir.create(str(tmp_path / "snapshots"), doubles.UUID, conf.host)
    yield made
    made.close()


@pytest.fixture
def method(conf):
    conf.set_override("operation_timeout", 1, "libvirt")
    return ManagedSave(conf)


@pytest.fixture
def request_(guest, directory):
    directory.note(power_state=guest.state)
    return make_request(guest, directory)


def make_request(guest, directory, begin=lambda: None) -> Request:
    domain = guest.describe()
    image = ImageRequest(domain.root_disk(), Backend(guest), "qcow2")
    return Request(guest, domain, guest.state, [image], directory, begin)


def assert_as_before(guest, state=power_state.RUNNING):
    assert (guest.active, guest.state, guest.saved) == (True, state, False)
    assert guest.devices.keys() == doubles.HOSTDEVS.keys()


def test_good(method, guest, request_):
    method.take(request_)
    assert guest.changes() == SAVED
    assert_as_before(guest)


def test_paused_guest_comes_back_paused(method, guest, directory):
    guest.state = power_state.PAUSED
    guest.devices.clear()
    directory.note(power_state=guest.state)
    method.take(make_request(guest, directory))
    assert (guest.active, guest.state, guest.saved) == (True, power_state.PAUSED, False)


def test_reading_fails(method, guest, request_):
    error = exception.QemuImgFailed(command="convert", exit_code=1, stderr="no")
    request_.root.backend.error = error
    with pytest.raises(exception.QemuImgFailed):
        method.take(request_)
    assert_as_before(guest)


def test_snapshot_is_not_wanted_any_more(method, guest, directory):
    """The callback refuses just after the save."""
    directory.note(power_state=guest.state)

    def begin():
        assert guest.saved
        raise exception.UnexpectedTaskState(instance_uuid="", expected=(), actual="deleting")

    with pytest.raises(exception.UnexpectedTaskState):
        method.take(make_request(guest, directory, begin))
    assert_as_before(guest)


def test_save_fails_and_the_guest_runs(method, guest, request_):
    guest.errors["managed_save"] = doubles.failed("managedSave")
    with pytest.raises(exception.LibvirtOperationFailed):
        method.take(request_)
    assert "launch" not in guest.changes()
    assert_as_before(guest)


def test_save_fails_and_leaves_the_guest_paused(method, guest, request_):
    guest.errors["managed_save"] = exception.WaitTimeout(what="the save", seconds=1)
    guest.before["managed_save"] = lambda: setattr(guest, "state", power_state.PAUSED)
    with pytest.raises(exception.WaitTimeout):
        method.take(request_)
    assert_as_before(guest)


def test_save_succeeds_but_its_answer_is_lost(method, guest, request_):
    guest.errors["managed_save"] = exception.HypervisorUnavailable(uri="", reason="gone")

    def save():
        guest.saved = True
        guest.stop()

    guest.before["managed_save"] = save
    with pytest.raises(exception.HypervisorUnavailable):
        method.take(request_)
    assert_as_before(guest)


def test_save_is_cut_off_with_libvirt(method, guest, request_):
    """The guest lives, and a part of its memory is on the disk."""
    guest.errors["managed_save"] = exception.HypervisorUnavailable(uri="", reason="gone")

    def save():
        guest.saved = True
        guest.state = power_state.PAUSED

    guest.before["managed_save"] = save
    with pytest.raises(exception.HypervisorUnavailable):
        method.take(request_)
    assert not guest.saved
    assert_as_before(guest)


def test_restoring_is_tried_again(method, guest, request_):
    guest.patience = 30.0
    guest.errors["launch"] = [doubles.failed("createWithFlags")]
    method.take(request_)
    assert guest.changes().count("launch") == 2
    assert_as_before(guest)


def test_restoring_fails_for_good(method, guest, request_, caplog):
    guest.errors["launch"] = doubles.failed("createWithFlags")
    with pytest.raises(exception.LibvirtOperationFailed):
        method.take(request_)
    assert f"Its memory is kept: start it with: virsh start {guest.name}" in caplog.text
    # For whoever puts it right later.
    assert request_.workdir.journal.saving
    assert len(request_.workdir.journal.detached) == 2


@pytest.mark.parametrize("state", [power_state.RUNNING, power_state.PAUSED])
def test_a_save_that_is_not_over_may_succeed_yet(guest, directory, state):
    """Its process died, or gave it up: when libvirt has done it, the guest is off."""
    guest.state = power_state.PAUSED
    guest.saving = True
    directory.note(saving=True, power_state=state)
    with pytest.raises(exception.StillSaving):
        put_back(guest, directory, 1)
    assert directory.journal.saving
    assert guest.changes() == []
    guest.saving, guest.saved = False, True
    guest.stop()
    put_back(guest, directory, 1)
    assert (guest.active, guest.state) == (True, state)
    assert not directory.journal.saving


def test_user_starts_the_guest_meanwhile(method, guest, request_):
    method.take(request_)
    request_.workdir.note(saving=True)
    guest.calls.clear()
    put_back(guest, request_.workdir, 1)
    assert guest.changes() == []


def test_user_shuts_the_guest_off_meanwhile(guest, directory, caplog):
    """What is neither saved nor running was stopped by somebody: it is not booted."""
    directory.note(power_state=guest.state, saving=True)
    guest.stop()
    put_back(guest, directory, 1)
    assert not guest.active
    assert "was shut off meanwhile" in caplog.text


@pytest.mark.parametrize("number", [0, 1])
def test_one_device_cannot_be_attached(method, guest, request_, caplog, number):
    warnings = []
    request_ = dataclasses.replace(request_, warn=warnings.append)
    guest.errors["attach_device"] = [None] * number + [doubles.failed("attachDevice", "no slot")]
    method.take(request_)
    assert guest.state == power_state.RUNNING
    assert len(guest.devices) == 1
    (warning,) = warnings
    assert "could not be given back to the server, which runs without it" in warning
    # It is tried again later.
    (noted,) = request_.workdir.journal.detached
    assert noted[1] in doubles.HOSTDEVS.keys() - guest.devices.keys()
    errors = logs.ours(caplog, logging.ERROR)
    assert len(errors) == 1
    assert "WITHOUT this device" in errors[0]
    assert f"virsh attach-device {guest.name} FILE --live" in errors[0]
    assert "no slot" in errors[0]


@pytest.mark.parametrize("number", [0, 1])
def test_device_cannot_be_detached(method, guest, request_, number):
    guest.errors["detach_device"] = [None] * number + [doubles.failed("detachDevice", "busy")]
    with pytest.raises(exception.DeviceError, match=r"Cannot detach device .*: busy"):
        method.take(request_)
    assert "managed_save" not in guest.calls
    assert_as_before(guest)


def test_guest_keeps_a_device(guest):
    """libvirt has asked it to let go; it does not."""
    device = guest.describe().host_devices[0]
    original = dict(guest.devices)
    guest.before["xml"] = lambda: guest.devices.update(original)
    with pytest.raises(exception.DeviceKept, match=r"has not let go of it within 0\.01 s"):
        devices.detach(guest, device, 0.01)


def test_libvirt_itself_waits_too_long(guest):
    """It has asked the guest by then."""
    device = guest.describe().host_devices[0]
    guest.errors["detach_device"] = exception.WaitTimeout(what="detachDeviceFlags", seconds=1)
    with pytest.raises(exception.DeviceKept):
        devices.detach(guest, device, 1)


def test_guest_that_keeps_a_device_may_lose_it_later(method, guest, request_, directory):
    guest.errors["detach_device"] = exception.WaitTimeout(what="detachDeviceFlags", seconds=1)
    with pytest.raises(exception.DeviceKept):
        method.take(request_)
    assert_as_before(guest)
    assert not directory.journal.detached
    assert [noted[1] for noted in directory.journal.asked] == ["0000:06:12.0"]
    assert not directory.journal.is_settled


@pytest.mark.parametrize("call", ["detach_device", "managed_save"])
def test_guest_is_shut_off_meanwhile(method, guest, request_, directory, call):
    """Its definition still has its devices."""
    guest.before[call] = guest.stop
    guest.errors[call] = doubles.failed(call, "domain is not running")
    with pytest.raises(exception.HypervisorError, match="domain is not running"):
        method.take(request_)
    assert not guest.active
    assert "attach_device" not in guest.calls
    assert directory.journal.is_settled


def test_guest_is_shut_off_before_it_lets_go(guest):
    """What is shown then is its definition: nobody waits for that to change."""
    device = guest.describe().host_devices[0]
    guest.before["xml"] = lambda: guest.devices.update(doubles.HOSTDEVS)
    guest.before["is_active"] = guest.stop
    with pytest.raises(exception.DeviceError, match="the guest was shut off meanwhile"):
        devices.detach(guest, device, 60)


def test_guest_takes_its_time_to_let_go(guest):
    device = guest.describe().host_devices[0]
    original = dict(guest.devices)
    looks = iter([True, True])
    guest.before["xml"] = lambda: next(looks, False) and guest.devices.update(original)
    guest.before["detach_device"] = guest.calls.clear
    guest.errors["xml"] = [None, None]

    def release():
        if not next(looks, False):
            guest.devices.pop(device.address, None)

    guest.before["xml"] = release
    guest.before["detach_device"] = lambda: guest.devices.update(original)
    devices.detach(guest, device, 10)
    assert device.address not in guest.devices


def on_disk(directory):
    """What the next start would know."""
    with open(directory.file("journal.json")) as file:
        facts = json.load(file)
    return [[noted[1] for noted in facts[name]] for name in ("asked", "detached")]


def test_what_the_journal_says_of_devices_at_each_moment(method, guest, request_, directory):
    """A guest has what it is only asked for, and has not what it is to get back."""
    seen = []
    for call in ("detach_device", "managed_save", "attach_device"):
        guest.before[call] = lambda: seen.append(on_disk(directory))
    first, second = doubles.HOSTDEVS
    method.take(request_)
    assert seen == [
        [[first], []],
        [[second], [first]],
        [[], [first, second]],
        [[], [first, second]],
        [[], [second]],
    ]
    assert on_disk(directory) == [[], []]


def test_device_that_is_removed_while_the_guest_is_saved(method, guest, request_, directory):
    """By its owner, from the definition: the guest had it no more."""
    first, second = doubles.HOSTDEVS
    guest.before["managed_save"] = lambda: guest.defined.pop(first)
    method.take(request_)
    assert guest.devices.keys() == {second}
    assert directory.journal.is_settled
