# SPDX-License-Identifier: Apache-2.0
"""The choice of the snapshot method, as a table."""

import dataclasses

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.capabilities import Capabilities
from nova_snap.virt.libvirt.domain_disks import Encryption, NetworkSource, SecretReference
from nova_snap.virt.libvirt.snapshot.methods import GuestFacts, Method, choose_method

NEW = Capabilities("QEMU", 9_000_000, 7_002_000)
NO_BACKUP = Capabilities("QEMU", 7_001_000, 6_000_000)
OLDEST = Capabilities("QEMU", 1_000_000, 1_003_000)
TOO_OLD_LIBVIRT = Capabilities("QEMU", 999_999, 1_003_000)
TOO_OLD_QEMU = Capabilities("QEMU", 1_000_000, 1_002_999)
LXC = Capabilities("LXC", 9_000_000, 6_001_000)

DISK = domain_xml.Disk("vda", "virtio", "disk", "file", "/disk", "qcow2")
RAW = dataclasses.replace(DISK, format="raw")
LVM = dataclasses.replace(DISK, source_type="block", format="raw", path="/dev/vg/lv")
RBD = dataclasses.replace(
    DISK, source_type="network", format="raw", path=None, network=NetworkSource("rbd", "vms/x")
)
ISCSI = dataclasses.replace(RBD, network=NetworkSource("iscsi", "iqn.x"))
KEY = SecretReference("volume", "6e1d4f62-5c35-4b43-9c5e-3f4d0d5ae111")
LUKS = dataclasses.replace(DISK, encryption=Encryption("luks", KEY))
OVER_LUKS = dataclasses.replace(
    DISK, backing=(domain_xml.Layer("/base", "qcow2", Encryption("luks", KEY)),)
)
DM_CRYPT = dataclasses.replace(LVM, path="/dev/mapper/x_disk-dmcrypt")
VMDK = dataclasses.replace(DISK, format="vmdk")

RUNNING = GuestFacts(power_state.RUNNING, True, "kvm")
EMULATED = GuestFacts(power_state.RUNNING, True, "qemu")
PAUSED = GuestFacts(power_state.PAUSED, True, "kvm")
SHUT_OFF = GuestFacts(power_state.SHUTDOWN, False, "kvm")
SUSPENDED = GuestFacts(power_state.SHUTDOWN, False, "kvm", has_managed_save=True)
SHUTTING_DOWN = GuestFacts(power_state.SHUTDOWN, True, "kvm")
CRASHED = GuestFacts(power_state.CRASHED, True, "kvm")
ASLEEP = GuestFacts(power_state.SUSPENDED, True, "kvm")
WITH_DEVICES = dataclasses.replace(RUNNING, host_devices=True)
PAUSED_WITH_DEVICES = dataclasses.replace(PAUSED, host_devices=True)
CONTAINER = GuestFacts(power_state.RUNNING, True, "lxc")
READ_ONLY_CONTAINER = dataclasses.replace(CONTAINER, mounted_read_only=True)
WRITABLE_CONTAINER = dataclasses.replace(CONTAINER, mounted_writable=True)
STOPPED_CONTAINER = GuestFacts(power_state.SHUTDOWN, False, "lxc")


JOB_LOST = dataclasses.replace(RUNNING, job_lost=True)
COPY_LOST = dataclasses.replace(RUNNING, copy_lost=True)


def decrypting(guest: GuestFacts) -> GuestFacts:
    return dataclasses.replace(guest, may_decrypt=True)


def strict(guest: GuestFacts) -> GuestFacts:
    return dataclasses.replace(guest, quiesce_required=True)


@pytest.mark.parametrize(
    ("capabilities", "config", "guest", "disk", "method", "reason"),
    [
        (NEW, "auto", RUNNING, DISK, Method.STREAM, "can be read as of this moment"),
        (NEW, "auto", PAUSED, RAW, Method.STREAM, "the guest is paused"),
        (NEW, "auto", strict(RUNNING), DISK, Method.STREAM, "the guest is running"),
        (NEW, "stream", RUNNING, DISK, Method.STREAM, "snapshot_method asks"),
        (NEW, "stream", SHUT_OFF, DISK, Method.OFFLINE, "shut off"),
        (NO_BACKUP, "auto", RUNNING, DISK, Method.MIRROR, "the guest is running"),
        (NO_BACKUP, "auto", EMULATED, RAW, Method.MIRROR, "the guest is running"),
        (NO_BACKUP, "auto", PAUSED, DISK, Method.MIRROR, "the guest is paused"),
        (NO_BACKUP, "auto", CRASHED, DISK, Method.MIRROR, "the guest is crashed"),
        (NO_BACKUP, "auto", ASLEEP, DISK, Method.MIRROR, "the guest is suspended"),
        (OLDEST, "auto", RUNNING, DISK, Method.MIRROR, "the guest is running"),
        (NEW, "mirror", RUNNING, DISK, Method.MIRROR, "snapshot_method asks"),
        (NEW, "auto", JOB_LOST, DISK, Method.MIRROR, "while it began a backup"),
        (NEW, "mirror", JOB_LOST, DISK, Method.MIRROR, "while it began a backup"),
        (NEW, "auto", PAUSED_WITH_DEVICES, DISK, Method.STREAM, "the guest is paused"),
        (NEW, "managed_save", WITH_DEVICES, DISK, Method.MANAGED_SAVE, "snapshot_method asks"),
        (NEW, "managed_save", RUNNING, DISK, Method.MANAGED_SAVE, "snapshot_method asks"),
        (NEW, "managed_save", PAUSED, RAW, Method.MANAGED_SAVE, "snapshot_method asks"),
        (TOO_OLD_LIBVIRT, "auto", RUNNING, DISK, Method.MANAGED_SAVE, "libvirt 0.999.999"),
        (TOO_OLD_QEMU, "auto", PAUSED, DISK, Method.MANAGED_SAVE, "this is QEMU 1.2.999"),
        (NEW, "auto", SHUT_OFF, DISK, Method.OFFLINE, "shut off"),
        (NEW, "mirror", SHUT_OFF, RAW, Method.OFFLINE, "shut off"),
        (NEW, "managed_save", SHUT_OFF, DISK, Method.OFFLINE, "shut off"),
        (NEW, "managed_save", SUSPENDED, DISK, Method.OFFLINE, "its memory stays saved"),
        (NEW, "auto", strict(SHUT_OFF), DISK, Method.OFFLINE, "shut off"),
        (TOO_OLD_QEMU, "auto", SHUT_OFF, DISK, Method.OFFLINE, "shut off"),
        (LXC, "auto", STOPPED_CONTAINER, RAW, Method.OFFLINE, "shut off"),
        (LXC, "auto", READ_ONLY_CONTAINER, RAW, Method.OFFLINE, "mounted read-only"),
        (LXC, "managed_save", READ_ONLY_CONTAINER, RAW, Method.OFFLINE, "mounted read-only"),
        (NO_BACKUP, "auto", strict(RUNNING), DISK, Method.MIRROR, "the guest is running"),
        (NEW, "auto", RUNNING, LVM, Method.STREAM, "can be read as of this moment"),
        (NEW, "stream", PAUSED, LVM, Method.STREAM, "snapshot_method asks"),
        (NEW, "auto", SHUT_OFF, LVM, Method.OFFLINE, "shut off"),
        (NEW, "managed_save", RUNNING, LVM, Method.MANAGED_SAVE, "snapshot_method asks"),
        # The seed's live path is not for them.
        (NEW, "mirror", RUNNING, LVM, Method.MANAGED_SAVE, "the disk is a block device"),
        (NEW, "mirror", PAUSED, RBD, Method.MANAGED_SAVE, "the disk is in Ceph"),
        (NEW, "mirror", SHUT_OFF, LVM, Method.OFFLINE, "shut off"),
        (NO_BACKUP, "auto", RUNNING, LVM, Method.MANAGED_SAVE, "made of files only"),
        (NEW, "auto", decrypting(RUNNING), LUKS, Method.STREAM, "can be read as of this moment"),
        (NEW, "auto", decrypting(RUNNING), OVER_LUKS, Method.STREAM, "can be read"),
        (NEW, "auto", decrypting(SHUT_OFF), LUKS, Method.OFFLINE, "shut off"),
        (NEW, "mirror", decrypting(RUNNING), LUKS, Method.MANAGED_SAVE, "not be encrypted"),
        (NEW, "auto", decrypting(RUNNING), DM_CRYPT, Method.MANAGED_SAVE, "stands still"),
        (NEW, "stream", decrypting(PAUSED), DM_CRYPT, Method.MANAGED_SAVE, "stands still"),
        (NEW, "auto", decrypting(SHUT_OFF), DM_CRYPT, Method.OFFLINE, "shut off"),
    ],
)
def test_choice(capabilities, config, guest, disk, method, reason):
    choice = choose_method(capabilities, config, guest, disk)
    assert choice.method is method
    assert reason in choice.reason


@pytest.mark.parametrize(
    ("capabilities", "config", "guest", "disk", "reason"),
    [
        (NEW, "auto", SHUT_OFF, ISCSI, "format raw in a network"),
        (NEW, "mirror", strict(RUNNING), LVM, "needs mirror, but a block copy is made of files"),
        (NO_BACKUP, "auto", CRASHED, LVM, "none is known for a guest that is crashed"),
        (NEW, "auto", RUNNING, LUKS, "snapshot_encrypted_disks = decrypt"),
        (NEW, "auto", SHUT_OFF, LUKS, "the disk is encrypted, and its image would not be"),
        (NEW, "auto", SUSPENDED, OVER_LUKS, "the disk is encrypted"),
        (NEW, "managed_save", RUNNING, DM_CRYPT, "the disk is encrypted"),
        (NEW, "auto", SHUT_OFF, DM_CRYPT, "the disk is encrypted"),
        (NEW, "auto", decrypting(strict(RUNNING)), DM_CRYPT, "requires a quiesce"),
        (NEW, "auto", decrypting(CRASHED), DM_CRYPT, "that is crashed cannot be saved"),
        (NEW, "auto", RUNNING, VMDK, "format vmdk in a file"),
        (LXC, "auto", CONTAINER, RAW, "a container that runs"),
        (LXC, "auto", WRITABLE_CONTAINER, RAW, "may be written to; stop the container first"),
        (LXC, "managed_save", WRITABLE_CONTAINER, RAW, "may be written to"),
        (
            LXC,
            "auto",
            dataclasses.replace(STOPPED_CONTAINER, mounted_writable=True),
            RAW,
            "may be written to",
        ),
        (LXC, "managed_save", CONTAINER, RAW, "a container that runs"),
        (LXC, "mirror", CONTAINER, RAW, "a container that runs"),
        (NO_BACKUP, "stream", RUNNING, DISK, "needs libvirt 7.2.0"),
        (NEW, "auto", SHUTTING_DOWN, DISK, "about to shut down"),
        (NEW, "managed_save", PAUSED_WITH_DEVICES, DISK, "cannot let go of them"),
        (TOO_OLD_QEMU, "auto", PAUSED_WITH_DEVICES, DISK, "cannot let go of them"),
        (NEW, "managed_save", CRASHED, DISK, "that is crashed cannot be saved"),
        (NEW, "managed_save", ASLEEP, DISK, "that is suspended cannot be saved"),
        (NEW, "managed_save", strict(RUNNING), DISK, "requires a quiesce"),
        (TOO_OLD_QEMU, "mirror", RUNNING, DISK, "needs QEMU 1.3.0 and libvirt 1.0.0"),
        (TOO_OLD_QEMU, "auto", strict(RUNNING), DISK, "requires a quiesce"),
        (TOO_OLD_QEMU, "auto", CRASHED, DISK, "none is known for a guest that is crashed"),
        (NEW, "stream", JOB_LOST, DISK, "waits for the end of that for ever; the operator can"),
        (NEW, "managed_save", JOB_LOST, DISK, "while it began a backup"),
        (NEW, "auto", JOB_LOST, LVM, "while it began a backup"),
        (NEW, "auto", COPY_LOST, DISK, "no job carries out any more"),
        (NEW, "mirror", COPY_LOST, DISK, "start it again"),
        (NEW, "managed_save", COPY_LOST, DISK, "no job carries out any more"),
    ],
)
def test_no_choice(capabilities, config, guest, disk, reason):
    with pytest.raises(exception.SnapshotMethodUnavailable) as caught:
        choose_method(capabilities, config, guest, disk)
    assert reason in caught.value.reason
    assert caught.value.method == config


@pytest.mark.parametrize("image_format", ["vmdk", "vdi"])
def test_format_that_cannot_be_streamed(image_format):
    assert choose_method(NEW, "auto", RUNNING, DISK, image_format).method is Method.MIRROR
    with pytest.raises(exception.SnapshotMethodUnavailable, match=f"to be {image_format}"):
        choose_method(NEW, "stream", RUNNING, DISK, image_format)
    assert choose_method(NEW, "auto", RUNNING, LVM, image_format).method is Method.MANAGED_SAVE


@pytest.mark.parametrize("config", ["auto", "direct"])
@pytest.mark.parametrize("guest", [RUNNING, PAUSED, SHUT_OFF, SUSPENDED, SHUTTING_DOWN, CRASHED])
def test_storage_cluster_that_can_make_the_image(config, guest):
    """Whatever the guest does, and whatever libvirt can do."""
    for capabilities in (NEW, TOO_OLD_QEMU):
        choice = choose_method(capabilities, config, strict(guest), RBD, "raw", None)
        assert choice.method is Method.DIRECT
        assert "in one storage cluster" in choice.reason


@pytest.mark.parametrize(
    ("config", "guest", "method"),
    [
        ("auto", RUNNING, Method.STREAM),
        ("auto", SHUT_OFF, Method.OFFLINE),
        ("stream", RUNNING, Method.STREAM),
        ("managed_save", RUNNING, Method.MANAGED_SAVE),
    ],
)
def test_storage_cluster_that_cannot(config, guest, method):
    choice = choose_method(NEW, config, guest, RBD, "raw", "the pool is not known")
    assert choice.method is method
    wondered_at = "; not by method direct: the pool is not known"
    assert choice.reason.endswith(wondered_at) == (config == "auto")


def test_disk_in_a_cluster_is_no_reason_to_suspend_its_guest():
    with pytest.raises(exception.SnapshotMethodUnavailable, match="would have to be suspended"):
        choose_method(NO_BACKUP, "auto", RUNNING, RBD, "raw", "the pool is not known")


@pytest.mark.parametrize("disk", [DISK, RBD])
def test_direct_alone(disk):
    with pytest.raises(exception.SnapshotMethodUnavailable, match="asks for direct, and no"):
        choose_method(NEW, "direct", RUNNING, disk, "raw", "no")
