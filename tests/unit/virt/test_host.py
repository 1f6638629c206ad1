# SPDX-License-Identifier: Apache-2.0
"""The connection, on libvirt's own test driver: a real libvirt without a hypervisor."""

import threading

import libvirt
import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import errors
from nova_snap.virt.libvirt.driver import LibvirtDriver
from nova_snap.virt.libvirt.host import Host

XML = """<domain type='test'><name>web</name><memory>1024</memory>
<os><type>hvm</type></os></domain>"""


@pytest.fixture
def host(conf):
    conf.set_override("connection_uri", "test:///default", "libvirt")
    conf.set_override("operation_timeout", 5, "libvirt")
    made = Host(conf)
    yield made
    made.close()


@pytest.fixture
def guest(host):
    made = host.define(XML, "web")
    # The test driver forgets its domains with the last connection, and that closes at any time.
    connection = libvirt.open("test:///default")
    yield made
    connection.close()
    domain = host.connection().lookupByName("web")
    if domain.isActive():
        domain.destroy()
    domain.undefine()


def test_capabilities(host):
    found = host.capabilities()
    assert found.hypervisor == "TEST"
    assert found.libvirt_version == libvirt.getVersion()


def test_domains(host, guest):
    assert host.list_domains() == ["test", "web"]
    assert host.get_guest("web").uuid == guest.uuid
    assert host.get_guest_by_uuid(guest.uuid).name == "web"


@pytest.mark.parametrize("look_up", ["get_guest", "get_guest_by_uuid"])
def test_no_such_domain(host, look_up):
    with pytest.raises(exception.DomainNotFound):
        getattr(host, look_up)("5a1d7a7e-0a44-44a8-8f2f-7f0c8f1f0001")


def test_life_of_a_guest(guest):
    assert (guest.power_state(), guest.is_active()) == (power_state.SHUTDOWN, False)
    guest.launch(paused=False, seconds=5)
    assert (guest.power_state(), guest.is_active()) == (power_state.RUNNING, True)
    guest.suspend()
    assert guest.power_state() == power_state.PAUSED
    guest.resume()
    assert guest.power_state() == power_state.RUNNING
    assert guest.is_persistent()
    assert guest.describe().name == "web"
    guest.set_autostart(True)
    assert guest.autostart()


def test_managed_save(guest):
    guest.launch(paused=False, seconds=5)
    guest.managed_save(5)
    assert guest.has_managed_save()
    assert not guest.is_active()
    guest.launch(paused=False, seconds=5)
    assert not guest.has_managed_save()


def test_refusal_of_libvirt(guest):
    with pytest.raises(exception.LibvirtOperationFailed) as caught:
        guest.resume()
    assert (caught.value.operation, caught.value.domain) == ("resume", "web")
    assert caught.value.code == libvirt.VIR_ERR_INTERNAL_ERROR
    assert "not paused" in caught.value.reason
    assert isinstance(caught.value.__cause__, libvirt.libvirtError)


def test_guest_outlives_its_connection(host, guest):
    """What libvirt calls a domain dies with its connection; a guest is looked up again."""
    guest.power_state()
    host.close()
    assert guest.power_state() == power_state.SHUTDOWN


def test_broken_connection_is_opened_again(host):
    first = host.connection()
    assert host.connection() is first
    first.close()
    assert host.list_domains() == ["test"]
    assert host.connection() is not first


def test_close_twice(host):
    host.connection()
    host.close()
    host.close()


def test_no_libvirt(conf, tmp_path):
    uri = f"qemu+unix:///system?socket={tmp_path}/none"
    conf.set_override("connection_uri", uri, "libvirt")
    with pytest.raises(exception.HypervisorUnavailable) as caught:
        Host(conf).connection()
    assert caught.value.uri == uri


def test_libvirt_that_does_not_answer(conf, tmp_path):
    """A daemon that accepts and says nothing must not hold us up for ever."""
    import socket

    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        conf.set_override("connection_uri", f"qemu+unix:///system?socket={path}", "libvirt")
        conf.set_override("operation_timeout", 1, "libvirt")
        with pytest.raises(exception.HypervisorUnavailable, match="Waited 1 s"):
            Host(conf).connection()


def test_call_that_does_not_come_back(host):
    release = threading.Event()
    with pytest.raises(exception.WaitTimeout, match="libvirt's someCall of web"):
        host.call("someCall", "web", lambda _connection: release.wait(), seconds=0.01)
    release.set()


@pytest.mark.parametrize(
    ("virt_type", "wanted"), [("kvm", "QEMU"), ("qemu", "QEMU"), ("lxc", "LXC")]
)
def test_libvirt_of_another_kind(conf, host, virt_type, wanted):
    conf.set_override("virt_type", virt_type, "libvirt")
    with pytest.raises(exception.HypervisorUnavailable, match=f"needs a {wanted} connection"):
        LibvirtDriver(conf, None, host).init_host()


class Error(libvirt.libvirtError):
    """An error as libvirt would raise it."""

    def __init__(self, code, layer=libvirt.VIR_FROM_QEMU):
        super().__init__("it failed")
        self.err = (code, layer, "it failed", 2, None, None, None, -1, -1)


@pytest.mark.parametrize(
    ("code", "layer", "error"),
    [
        (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_FROM_QEMU, exception.DomainNotFound),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_QEMU, exception.LibvirtOperationFailed),
        (libvirt.VIR_ERR_INTERNAL_ERROR, libvirt.VIR_FROM_RPC, exception.HypervisorUnavailable),
        (libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_REMOTE, exception.HypervisorUnavailable),
        (libvirt.VIR_ERR_INVALID_CONN, libvirt.VIR_FROM_NONE, exception.HypervisorUnavailable),
        (libvirt.VIR_ERR_OPERATION_INVALID, libvirt.VIR_FROM_RPC,
         exception.LibvirtOperationFailed),
    ],
)  # fmt: skip
def test_translation(code, layer, error):
    made = errors.translate(Error(code, layer), "someCall", "web", "qemu:///system")
    assert type(made) is error


def test_other_daemon_that_libvirt_cannot_reach():
    """Our own connection is open: it is not the one that failed."""
    error = Error(libvirt.VIR_ERR_SYSTEM_ERROR, libvirt.VIR_FROM_RPC)
    made = errors.translate(error, "createWithFlags", "web", "qemu:///system", alive=True)
    assert type(made) is exception.LibvirtOperationFailed


def test_lost_connection_is_opened_again(host):
    first = host.connection()

    def lose(_connection):
        raise Error(libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC)

    with pytest.raises(exception.HypervisorUnavailable):
        host.call("someCall", "web", lose)
    assert host.connection() is not first


class TestLostMeanwhile:
    """The connection breaks under a call."""

    @pytest.fixture
    def breaks(self):
        def once(answer):
            def ask(_connection):
                calls.append(answer)
                if len(calls) == 1:
                    raise Error(libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC)
                return answer

            return ask

        calls = []
        return once

    def test_a_question_is_asked_again(self, host, breaks):
        before = host.interruptions
        assert host.ask("someQuestion", "web", breaks(7)) == 7
        assert host.interruptions == before + 1

    def test_what_was_not_called_yet_is_called(self, host, breaks):
        made = []
        host.call("someCall", "web", made.append, find=breaks("domain"))
        assert made == ["domain"]

    def test_what_may_have_been_obeyed_is_not_called_again(self, host, breaks):
        with pytest.raises(exception.HypervisorUnavailable):
            host.call("someCall", "web", breaks(7), find=lambda _connection: "domain")

    def test_it_is_not_tried_for_ever(self, host):
        tried = []

        def never(_connection):
            tried.append(True)
            raise Error(libvirt.VIR_ERR_RPC, libvirt.VIR_FROM_RPC)

        for call in (
            lambda: host.ask("someQuestion", "web", never),
            lambda: host.call("someCall", "web", list, find=never),
        ):
            tried.clear()
            with pytest.raises(exception.HypervisorUnavailable):
                call()
            assert len(tried) == 3
