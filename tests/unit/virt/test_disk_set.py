# SPDX-License-Identifier: Apache-2.0
"""Which disks are taken together, and how."""

import dataclasses

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.driver import NoMonitor
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.snapshot.disk_set import DiskPlan, choose, local_disks
from nova_snap.virt.libvirt.snapshot.methods import GuestFacts, Method
from nova_snap.virt.libvirt.snapshot.progress import parts
from tests.unit.virt import doubles

VOLUME = "9ab3b1a2-5a7a-4a51-a6f5-6f6b2f8e2a10"
RUNNING = GuestFacts(power_state.RUNNING, active=True, virt_type="qemu")
SHUT_OFF = GuestFacts(power_state.SHUTDOWN, active=False, virt_type="qemu")


def disk(target: str, source: str, more: str = "", kind: str = "file", device: str = "disk") -> str:
    attribute = {"file": "file", "block": "dev"}[kind]
    return (
        f"<disk type='{kind}' device='{device}'><driver name='qemu' type='raw'/>"
        f"<source {attribute}='{source}'/><target dev='{target}' bus='virtio'/>{more}</disk>"
    )


def domain(*disks: str) -> domain_xml.Domain:
    xml = (
        f"<domain type='qemu'><name>{doubles.NAME}</name><uuid>{doubles.UUID}</uuid>"
        f"<memory>1</memory><vcpu>1</vcpu><devices>{''.join(disks)}</devices></domain>"
    )
    return domain_xml.parse(xml, doubles.NAME)


def test_what_nova_gives_an_instance() -> None:
    """In its order, but the root disk first."""
    found = local_disks(
        domain(
            disk("sda", "/i/disk.config", device="cdrom"),
            disk("vda", "/i/disk"),
            disk("vdb", "/i/disk.eph0"),
            disk("vdc", "/i/disk.swap"),
            disk("vdd", "/dev/sdx", f"<serial>{VOLUME}</serial>", kind="block"),
            disk("vde", "/dev/vg/i_disk.eph1", kind="block"),
            disk("vdz", "/i/disk.config"),
        )
    )
    assert [each.target for each in found.disks] == ["vda", "vdb", "vdc", "vde"]
    assert found.left_out == {"vdd": "a volume", "vdz": "the config drive"}


@pytest.mark.parametrize(
    ("xml", "reason"),
    [
        (disk("vdb", "/i/shared", "<shareable/>"), "shared with other guests"),
        (disk("vdb", "/i/data.iso", "<readonly/>"), "read-only"),
        (disk("vdb", "/dev/sdb", kind="block", device="lun"), "no local disk"),
        (
            "<disk type='network' device='disk'><source protocol='nbd' name='x'>"
            "<host name='h'/></source><target dev='vdb'/></disk>",
            "no local disk",
        ),
        (
            "<disk type='network' device='disk'><source protocol='rbd' name='vms/u_disk.config'>"
            "<host name='h'/></source><target dev='vdb'/></disk>",
            "the config drive",
        ),
    ],
    ids=["shareable", "readonly", "lun", "nbd", "config-drive-in-ceph"],
)
def test_what_is_left_out(xml: str, reason: str) -> None:
    found = local_disks(domain(disk("vda", "/i/disk"), xml))
    assert [each.target for each in found.disks] == ["vda"]
    assert found.left_out == {"vdb": reason}


def test_the_root_disk_is_taken_whatever_it_is() -> None:
    found = local_disks(domain(disk("vda", "/i/disk", "<shareable/>")))
    assert [each.target for each in found.disks] == ["vda"]


def test_only_the_root_disk_of_a_container() -> None:
    """Whether another one is mounted, and who may write to it, is not known."""
    made = domain(disk("rootfs", "/i/disk"), disk("vdb", "/i/data"))
    found = local_disks(dataclasses.replace(made, virt_type="lxc"))
    assert [each.target for each in found.disks] == ["rootfs"]
    assert found.left_out == {"vdb": "a container's"}


@pytest.fixture
def plans() -> list[DiskPlan]:
    made = domain(disk("vda", "/i/disk"), disk("vdb", "/i/disk.eph0"))
    return [DiskPlan(each, "qcow2") for each in made.disks]


@pytest.mark.parametrize(
    ("config", "guest", "method"),
    [
        ("auto", RUNNING, Method.STREAM),
        ("stream", RUNNING, Method.STREAM),
        ("managed_save", RUNNING, Method.MANAGED_SAVE),
        ("auto", SHUT_OFF, Method.OFFLINE),
        ("mirror", SHUT_OFF, Method.OFFLINE),
    ],
)
def test_the_method(plans, config, guest, method) -> None:
    choice = choose(doubles.NEW, config, guest, plans)
    assert choice.method is method
    assert choice.reason.endswith("; one instant of vda, vdb")


@pytest.mark.parametrize(
    ("capabilities", "config", "image_format"),
    [
        (doubles.NEW, "mirror", "qcow2"),
        (doubles.NEW, "auto", "vmdk"),
        (doubles.OLD, "auto", "qcow2"),
    ],
    ids=["asked-for", "format", "old-libvirt"],
)
def test_a_mirror_has_no_one_instant(plans, capabilities, config, image_format) -> None:
    """And a guest is not suspended unless the operator says that it may be."""
    wanted = [dataclasses.replace(each, image_format=image_format) for each in plans]
    with pytest.raises(exception.SnapshotMethodUnavailable) as caught:
        choose(capabilities, config, RUNNING, wanted)
    assert "one instant for all disks, and mirror has one for each" in caught.value.reason
    assert "managed_save, which suspends the guest" in caught.value.reason


def test_a_disk_that_nothing_reads_is_named(plans) -> None:
    odd = dataclasses.replace(plans[1].disk, format="vmdk")
    with pytest.raises(exception.SnapshotMethodUnavailable, match=r"disk vdb: no image backend"):
        choose(doubles.NEW, "auto", RUNNING, [plans[0], DiskPlan(odd, "qcow2")])


def test_disks_that_need_two_methods(plans) -> None:
    wanted = [plans[0], dataclasses.replace(plans[1], image_format="vmdk")]
    with pytest.raises(exception.SnapshotMethodUnavailable) as caught:
        choose(doubles.NEW, "auto", RUNNING, wanted)
    assert "they can be taken vda by stream, vdb by mirror" in caught.value.reason


class TestProgress:
    def test_is_of_all_images(self) -> None:
        told = []

        class Monitor(NoMonitor):
            def progress(self, done: int, total: int) -> None:
                told.append((done, total))

        first, second = parts(Monitor(), 2)
        first.progress(0, 100)
        second.progress(0, 50)
        first.progress(100, 100)
        second.progress(20, 50)
        # An upload that broke begins again.
        second.progress(0, 50)
        assert told == [(0, 100), (0, 150), (100, 150), (120, 150), (100, 150)]

    def test_whoever_stops_the_snapshot_stops_every_image(self) -> None:
        class Monitor(NoMonitor):
            def check(self) -> None:
                raise exception.ImageNotFound(image_id="image")

        for part in parts(Monitor(), 2):
            with pytest.raises(exception.ImageNotFound):
                part.check()
