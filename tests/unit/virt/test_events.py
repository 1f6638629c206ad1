# SPDX-License-Identifier: Apache-2.0
"""What libvirt's events mean, and that they come again after the connection was lost."""

import queue
import threading

import libvirt
import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import events
from nova_snap.virt.libvirt.host import Host as RealHost

UUID = "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"


@pytest.mark.parametrize(
    ("event", "detail", "state"),
    [
        (libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_STARTED_BOOTED,
         power_state.RUNNING),
        (libvirt.VIR_DOMAIN_EVENT_SUSPENDED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_IOERROR,
         power_state.PAUSED),
        (libvirt.VIR_DOMAIN_EVENT_RESUMED, libvirt.VIR_DOMAIN_EVENT_RESUMED_UNPAUSED,
         power_state.RUNNING),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_SHUTDOWN,
         power_state.SHUTDOWN),
        (libvirt.VIR_DOMAIN_EVENT_STOPPED, libvirt.VIR_DOMAIN_EVENT_STOPPED_CRASHED,
         power_state.CRASHED),
        (libvirt.VIR_DOMAIN_EVENT_CRASHED, libvirt.VIR_DOMAIN_EVENT_CRASHED_PANICKED,
         power_state.CRASHED),
        (libvirt.VIR_DOMAIN_EVENT_PMSUSPENDED, 0, power_state.SUSPENDED),
        # It has not stopped yet.
        (libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, 0, None),
        (libvirt.VIR_DOMAIN_EVENT_DEFINED, 0, None),
        (libvirt.VIR_DOMAIN_EVENT_UNDEFINED, 0, None),
        (12345, 0, None),
    ],
)  # fmt: skip
def test_meaning(event, detail, state):
    assert events.state_after(event, detail) == state


class Domain:
    def UUIDString(self):  # noqa: N802 - libvirt's name
        return UUID

    def state(self):
        return libvirt.VIR_DOMAIN_PAUSED, 0


class Connection:
    """A connection that takes a callback, and lets go of it."""

    def __init__(self):
        self.callbacks = {}

    def domainEventRegisterAny(self, domain, event_id, callback, opaque):  # noqa: N802
        assert domain is None
        assert event_id == libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE
        self.callbacks[7] = callback
        return 7

    def domainEventDeregisterAny(self, number):  # noqa: N802
        del self.callbacks[number]

    def listAllDomains(self):  # noqa: N802
        return [Domain()]

    def tell(self, event, detail=0):
        self.callbacks[7](self, Domain(), event, detail, None)


class Host:
    """What the listener uses of a host."""

    def __init__(self):
        self.current = Connection()
        self.looked = threading.Semaphore(0)

    def connection(self):
        self.looked.release()
        if self.current is None:
            raise exception.HypervisorUnavailable(uri="qemu:///system", reason="gone")
        return self.current

    def call_on(self, connection, operation, function):
        return function(connection)

    def ask(self, operation, domain, function):
        return function(self.current)


@pytest.fixture
def host():
    return Host()


@pytest.fixture
def listener(host):
    made = events.Listener(host, look_seconds=0.01)
    yield made
    made.close()


def listen(listener):
    seen = queue.SimpleQueue()
    listener.add(lambda *event: seen.put(event))
    return seen


def test_events_come_in_order(host, listener):
    seen = listen(listener)
    for event in (
        libvirt.VIR_DOMAIN_EVENT_STARTED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED,
        libvirt.VIR_DOMAIN_EVENT_SHUTDOWN, libvirt.VIR_DOMAIN_EVENT_STOPPED,
    ):  # fmt: skip
        host.current.tell(event)
    states = [seen.get(timeout=10) for _ in range(3)]
    assert states == [
        (UUID, power_state.RUNNING), (UUID, power_state.PAUSED), (UUID, power_state.SHUTDOWN),
    ]  # fmt: skip


def test_they_come_again_after_the_connection_was_lost(host, listener, caplog):
    seen = listen(listener)
    first, host.current = host.current, None
    for _ in range(3):
        assert host.looked.acquire(timeout=10)
    host.current = second = Connection()
    # What was missed meanwhile is made up for.
    assert seen.get(timeout=10) == (UUID, power_state.PAUSED)
    assert first.callbacks == {}
    assert caplog.text.count("No events of guests come") == 1
    second.tell(libvirt.VIR_DOMAIN_EVENT_RESUMED)
    assert seen.get(timeout=10) == (UUID, power_state.RUNNING)


def test_libvirt_that_cannot_be_reached_at_first(host, listener):
    host.current, later = None, host.current
    seen = listen(listener)
    host.current = later
    while not later.callbacks:
        assert host.looked.acquire(timeout=10)
    later.tell(libvirt.VIR_DOMAIN_EVENT_STOPPED)
    assert seen.get(timeout=10) == (UUID, power_state.SHUTDOWN)


def test_close(host, listener):
    listen(listener)
    listener.close()
    listener.close()
    assert host.current.callbacks == {}


def test_every_callback_is_called_although_one_fails(host, listener):
    def fail(*event):
        raise RuntimeError("told to")

    listener.add(fail)
    seen = listen(listener)
    host.current.tell(libvirt.VIR_DOMAIN_EVENT_STOPPED)
    assert seen.get(timeout=10) == (UUID, power_state.SHUTDOWN)


def test_on_libvirts_own_test_driver(conf):
    """A real libvirt without a hypervisor, whose connection is lost in between."""
    conf.set_override("connection_uri", "test:///default", "libvirt")
    host = RealHost(conf)
    listener = events.Listener(host, look_seconds=0.05)
    seen = listen(listener)
    guest = host.get_guest("test")
    try:
        guest.suspend()
        assert seen.get(timeout=10) == (guest.uuid, power_state.PAUSED)
        first = host.connection()
        first.close()
        # Told anew, as after every gap, on a connection that the listener has opened.
        assert seen.get(timeout=10)[0] == guest.uuid
        assert host.connection() is not first
        guest = host.get_guest("test")
        guest.end()
        while seen.get(timeout=10) != (guest.uuid, power_state.SHUTDOWN):
            pass
    finally:
        listener.close()
        host.close()
