# SPDX-License-Identifier: Apache-2.0
"""A save of a guest's memory outlives whoever has asked for it, with a real libvirt."""

import threading
import time
from pathlib import Path

import libvirt
import pytest

from nova_snap.compute import power_state
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.snapshot import managed_save, workdir
from tests.fixtures.libvirt_lab import LibvirtLab

# Enough for QEMU to need a second or more for it.
MEMORY_MIB = 2048
SECONDS = 60.0


@pytest.mark.parametrize("state", [power_state.RUNNING, power_state.PAUSED], ids=["runs", "paused"])
def test_guest_is_what_it_was(
    conf, libvirt_lab: LibvirtLab, tmp_path: Path, public_path: Path, state: int
) -> None:
    """libvirt still writes it when the guest is put right: without a look at that, a paused one
    would be taken for what it was, and be off a moment later."""
    conf.set_override("connection_uri", libvirt_lab.uri, "libvirt")
    disk = public_path / "disk.raw"
    disk.write_bytes(bytes(1 << 20))
    made = libvirt_lab.define_guest(
        "saved", disk, disk_format="raw", memory_mib=MEMORY_MIB, agent=False
    )
    domain = libvirt_lab.connect().lookupByName(made.name)
    paused = libvirt.VIR_DOMAIN_START_PAUSED if state == power_state.PAUSED else 0
    domain.createWithFlags(paused)
    guest = Host(conf).get_guest(made.name)
    directory = workdir.create(str(tmp_path / "snapshots"), guest.uuid, conf.host)
    directory.note(domain=guest.name, domain_uuid=guest.uuid, power_state=state, saving=True)

    save = threading.Thread(target=domain.managedSave, args=[0])
    save.start()
    until = time.monotonic() + SECONDS
    while not guest.is_being_saved() and save.is_alive() and time.monotonic() < until:
        time.sleep(0.001)
    assert guest.is_being_saved(), "it was over before it could be met"
    managed_save.put_back(guest, directory, SECONDS)

    save.join(SECONDS)
    assert not save.is_alive()
    assert (guest.is_active(), guest.power_state()) == (True, state)
    assert not guest.has_managed_save()
    directory.close()
    assert list((tmp_path / "snapshots").iterdir()) == []
    domain.destroy()
