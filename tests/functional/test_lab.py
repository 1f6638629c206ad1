# SPDX-License-Identifier: Apache-2.0
"""The laboratory's guests and its libvirt are what the other tests take them for."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import libvirt
import pytest

from tests.fixtures import disk_image, libvirt_ops
from tests.fixtures.commands import run
from tests.fixtures.console import ConsoleTimeout, GuestCommandFailed
from tests.fixtures.disks import KINDS, write_pattern
from tests.fixtures.domain_xml import NOVA_NAMESPACE, NovaMetadata, nova_metadata_xml
from tests.fixtures.guest.disk import ROOT_START, SLOT_SIZE, guest_disk
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LabUnusable, LibvirtLab


def test_every_kind_of_disk_boots_and_shuts_down_cleanly(libvirt_lab: LibvirtLab) -> None:
    guests = [libvirt_lab.define_guest(kind, libvirt_lab.make_disk(kind)) for kind in KINDS]
    for guest in guests:
        guest.start()
    for guest in guests:
        assert guest.wait_ready(120) == 1
        guest.run(f"echo {guest.name} > /data/note")
        guest.power_off(60)
    for kind, guest in zip(KINDS, guests, strict=True):
        image_format = "raw" if kind == "raw" else "qcow2"
        assert disk_image.check(guest.disk_path, image_format) == ""
        with disk_image.raw_view(guest.disk_path, image_format) as view:
            assert view.fsck().state == "clean"
            assert view.read_file("/data/note") == f"{kind}\n".encode()
            assert view.read_file("/data/boots") == b"1\n"


def test_guest_seen_from_all_sides(libvirt_lab: LibvirtLab) -> None:
    metadata = nova_metadata_xml(NovaMetadata(name="a <name> & more"))
    disk = libvirt_lab.make_disk("qcow2-backed")
    instance_uuid = str(uuid.uuid4())
    guest = libvirt_lab.define_guest(
        "instance-00000001", disk, uuid=instance_uuid, metadata_xml=metadata
    )
    assert guest.state()["state"] == "shut off"
    guest.start(paused=True)
    assert guest.state()["state"] == "paused"
    guest.resume()
    assert guest.wait_ready() == 1
    guest.wait_agent()
    state = guest.state()
    assert (state["state"], state["persistent"], state["block_jobs"]) == ("running", True, {})
    domain = libvirt_lab.connect().lookupByUUIDString(instance_uuid)
    kept = domain.metadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, NOVA_NAMESPACE)
    assert "a &lt;name&gt; &amp; more" in kept

    _console_tells_right_from_wrong(guest)
    _writes_stop_while_frozen(guest)
    _managed_save_keeps_the_guest_alive(guest)
    _paused_disk_is_of_one_instant(guest)
    _held_still_it_writes_nothing(guest)

    guest.power_off(by="agent")
    guest.start()
    assert guest.wait_ready() == 2
    guest.power_off(by="acpi")


def _console_tells_right_from_wrong(guest: Guest) -> None:
    assert guest.run("echo one; echo two") == "one\ntwo"
    with pytest.raises(GuestCommandFailed) as failed:
        guest.run("echo why >&2; (exit 3)")
    assert (failed.value.code, failed.value.output) == (3, "why")
    with pytest.raises(ConsoleTimeout):
        guest.console.expect("never printed", timeout=0.2)


def _writes_stop_while_frozen(guest: Guest) -> None:
    guest.start_writer()
    _wait_for_writes(guest)
    assert guest.agent("guest-fsfreeze-freeze") == 1
    frozen = guest.counter()
    assert guest.agent("guest-fsfreeze-status") == "frozen"
    time.sleep(0.3)  # that nothing happens takes time to see
    assert guest.counter() == frozen
    assert guest.agent("guest-fsfreeze-thaw") == 1
    _wait_for_writes(guest)


def _wait_for_writes(guest: Guest, writes: int = 3, timeout: float = 30) -> None:
    wanted, deadline = guest.counter() + writes, time.monotonic() + timeout
    while guest.counter() < wanted:
        assert time.monotonic() < deadline, f"the counter did not reach {wanted}"


def _managed_save_keeps_the_guest_alive(guest: Guest) -> None:
    guest.run("echo alive > /run/in-memory")
    guest.managed_save()
    state = guest.state()
    assert (state["state"], state["managed_save"]) == ("shut off", True)
    guest.start()
    assert guest.run("cat /run/in-memory") == "alive"
    _wait_for_writes(guest)


def _paused_disk_is_of_one_instant(guest: Guest) -> None:
    before = guest.counter()
    guest.suspend()
    with disk_image.raw_view(guest.disk_path, "qcow2", shared=True) as view:
        assert view.fsck().damage == ""
        written = view.writer_state()
    assert written.counter >= before > 0
    assert written.problems == ()
    guest.resume()


def _held_still_it_writes_nothing(guest: Guest) -> None:
    guest.hold_still()
    contents = []
    for _ in range(2):
        guest.suspend()
        contents.append(disk_image.content_sha256(guest.disk_path, "qcow2", shared=True))
        guest.resume()
        guest.run("sync; sleep 1")
    assert contents[0] == contents[1]
    guest.let_go()


def test_guest_whose_plug_is_pulled_recovers(libvirt_lab: LibvirtLab) -> None:
    guest = libvirt_lab.define_guest("plug", libvirt_lab.make_disk("raw", size=512 << 20))
    guest.start()
    guest.wait_ready()
    guest.start_writer()
    _wait_for_writes(guest)
    # A file that is still open has no name any more: there is more to recover than the journal.
    guest.run("setsid sh -c 'echo > /data/gone; exec 9< /data/gone; rm /data/gone; sync; sleep 600'"
              " > /dev/null 2>&1 < /dev/null & sleep 2")  # fmt: skip
    guest.destroy()
    assert disk_image.virtual_size(guest.disk_path, "raw") == 512 << 20
    with disk_image.raw_view(guest.disk_path, "raw") as view:
        assert view.fsck().state == "recovered"
        assert view.writer_state().problems == ()


def test_writer_state_sees_a_copy_of_two_instants(tmp_path: Path) -> None:
    """Were the slots newer or older than the counter, it would say so."""
    disk = tmp_path / "disk"
    run("cp", "--sparse=always", guest_disk().path, disk)
    disk.chmod(0o600)
    with disk_image.raw_view(disk, "raw") as view:
        assert view.writer_state().problems == ()
        blocks = run("debugfs", "-R", "blocks /data/slots", f"{view.path}?offset={ROOT_START}")
        slots = ROOT_START + 4096 * int(blocks.stdout.split()[0])
        with view.path.open("r+b") as content:
            content.seek(slots + 7 * SLOT_SIZE)
            content.write(b"%016d\n" % 7)
        assert view.writer_state().problems == ("the counter is 0, but slot 7 holds 7",)


def test_fsck_sees_corruption(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    run("cp", "--sparse=always", guest_disk().path, disk)
    disk.chmod(0o600)
    write_pattern(disk, "raw", ROOT_START + 8192, 1 << 20, 0xFF)
    with disk_image.raw_view(disk, "raw") as view:
        assert not view.fsck().consistent


def test_two_images_are_told_apart(libvirt_lab: LibvirtLab) -> None:
    deep, alone = libvirt_lab.make_disk("qcow2-deep"), libvirt_lab.make_disk("qcow2")
    tail = alone.guest.tail_offset
    assert str(tail) in disk_image.differences(deep.path, "qcow2", alone.path, "qcow2")
    write_pattern(deep.path, "qcow2", tail, deep.guest.tail_size, 0)
    assert disk_image.differences(deep.path, "qcow2", alone.path, "qcow2") == ""
    assert disk_image.differences(deep.path, "qcow2", alone.guest.path, "raw") == ""
    longer = libvirt_lab.make_disk("qcow2", size=300 << 20)
    assert "sizes" in disk_image.differences(longer.path, "qcow2", alone.path, "qcow2")


def test_guest_outlives_processes_and_changes_hands(
    detached_libvirt_lab: LibvirtLab, tmp_path: Path
) -> None:
    lab = detached_libvirt_lab
    guest = lab.define_guest("passed-on", lab.make_disk("qcow2-backed"))
    guest.start()
    guest.wait_ready()
    with _holder(lab.uri) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "passed-on running\n"
        # Held by another process; the console works all the same.
        lab.timeout = 0
        with pytest.raises(libvirt_ops.RootBusy):
            guest.state()
        assert guest.run("echo here") == "here"
    lab.timeout = 20
    assert guest.state()["state"] == "running"
    guest.wait_agent()
    # It powers itself off while no process holds the root; the next one to look reaps it.
    guest.power_off()


@contextlib.contextmanager
def _holder(uri: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the root of ``uri`` for the block, though it closes its connection."""
    program = (
        "import sys, libvirt\n"
        "libvirt.virEventRegisterDefaultImpl()\n"
        "connection = libvirt.open(sys.argv[1])\n"
        "for domain in connection.listAllDomains():\n"
        "    print(domain.name(), 'running' if domain.isActive() else 'shut off', flush=True)\n"
        "connection.close()\n"
        "sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, uri],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with holder:
        try:
            yield holder
        finally:
            holder.kill()


def test_one_process_one_root(libvirt_lab: LibvirtLab, tmp_path: Path) -> None:
    again = libvirt.open(libvirt_lab.uri)
    assert again.getURI() == libvirt_lab.uri
    again.close()
    with pytest.raises(libvirt.libvirtError, match="already open with path"):
        libvirt.open(f"qemu:///embed?root={tmp_path}")


def test_closed_lab_leaves_nothing(tmp_path: Path) -> None:
    def leave() -> None:
        raise ZeroDivisionError

    with contextlib.suppress(ZeroDivisionError), LibvirtLab() as lab:
        guest = lab.define_guest("left-behind", lab.make_disk("raw"))
        guest.start()
        pid = int((lab.root / "run/qemu/left-behind.pid").read_text())
        os.kill(pid, 0)
        leave()
    assert not lab.root.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_root_with_a_long_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LabUnusable, match="unix sockets"):
        LibvirtLab(tmp_path / ("long" * 20))
