# SPDX-License-Identifier: Apache-2.0
"""The XML of a domain that is to be made, as libvirt and as ``instance adopt`` read it."""

import dataclasses

import pytest
from lxml import etree

from nova_snap import exception
from nova_snap.virt.libvirt import domain_builder, domain_xml, nova_metadata

NOVA = nova_metadata.NovaMetadata(
    display_name="web <1> & more",
    created_at="2026-11-23 10:00:00",
    project_id="p1",
    project_name="Demo",
    user_id="u1",
    user_name="demo",
    image_ref="9e3d1b8c-9a70-4c0e-9d3f-5d2f6a1e0001",
    flavor_name="m1.tiny",
    memory_mb=512,
    vcpus=2,
    root_gb=1,
    ephemeral_gb=0,
    swap_mb=0,
    image_properties={"hw_qemu_guest_agent": "yes", "os_type": "linux"},
)
SPEC = domain_builder.DomainSpec(
    uuid="3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11",
    name="instance-00000001",
    virt_type="kvm",
    architecture="x86_64",
    cpu_mode="host-model",
    vcpus=2,
    memory_mb=512,
    disk="/instances/<u>/disk",
    cache="none",
    console_log="/instances/<u>/console.log",
    network="none",
    image_properties={},
    nova=NOVA,
)


def built(**changes):
    return etree.fromstring(domain_builder.build(dataclasses.replace(SPEC, **changes)))


def with_properties(**properties):
    return built(image_properties=properties)


def test_it_reads_as_it_was_meant():
    found = domain_xml.parse(domain_builder.build(SPEC), "x")
    assert (found.uuid, found.name, found.virt_type) == (SPEC.uuid, SPEC.name, "kvm")
    assert (found.vcpus, found.memory_mb, found.architecture) == (2, 512, "x86_64")
    disk = found.root_disk()
    assert (disk.target, disk.bus, disk.path, disk.format) == ("vda", "virtio", SPEC.disk, "qcow2")
    assert found.nova == NOVA
    assert found.agent_channel is None


def test_it_boots_from_its_disk_and_keeps_what_it_prints():
    domain = built()
    assert domain.find("os/boot").get("dev") == "hd"
    assert domain.find("devices/disk/driver").get("cache") == "none"
    log = domain.find("devices/serial/log")
    assert (log.get("file"), log.get("append")) == (SPEC.console_log, "off")
    assert domain.find("devices/rng/backend").text == "/dev/urandom"
    assert domain.find("devices/memballoon").get("model") == "virtio"
    assert domain.find("cpu").get("mode") == "host-model"


def test_cpu_mode_none_is_the_hypervisors_own():
    assert built(cpu_mode="none").find("cpu") is None


@pytest.mark.parametrize(
    ("network", "kind", "source"),
    [("user", "user", None), ("default", "network", "default"), ("a <b>", "network", "a <b>")],
)
def test_network(network, kind, source):
    interface = built(network=network).find("devices/interface")
    assert interface.get("type") == kind
    assert interface.find("model").get("type") == "virtio"
    found = interface.find("source")
    assert (found is None) if source is None else found.get("network") == source


def test_no_network():
    assert built(network="none").find("devices/interface") is None


@pytest.mark.parametrize(
    ("value", "there"), [("yes", True), ("True", True), ("1", True), ("no", False)]
)
def test_agent(value, there):
    channel = with_properties(hw_qemu_guest_agent=value).find("devices/channel/target")
    assert (channel is not None) == there
    if there:
        assert channel.get("name") == "org.qemu.guest_agent.0"


@pytest.mark.parametrize(("bus", "target"), domain_builder.DISK_BUSES.items())
def test_disk_bus(bus, target):
    domain = with_properties(hw_disk_bus=bus)
    found = domain.find("devices/disk/target")
    assert (found.get("dev"), found.get("bus")) == (target, bus)
    models = [element.get("model") for element in domain.iterfind("devices/controller")]
    assert ("virtio-scsi" in models) == (bus == "scsi")


def test_uefi():
    system = with_properties(hw_firmware_type="uefi").find("os")
    assert system.get("firmware") == "efi"
    assert system.find("type").get("machine") == "q35"
    features = {each.get("name"): each.get("enabled") for each in system.iter("feature")}
    assert features == {"enrolled-keys": "no", "secure-boot": "no"}
    assert built().find("os").get("firmware") is None
    assert built().find("os/type").get("machine") is None


def test_properties_that_are_followed():
    domain = dataclasses.replace(
        SPEC, network="user", image_properties={
            "hw_machine_type": "pc-i440fx-7.2", "hw_vif_model": "e1000", "os_type": "windows",
        },
    )  # fmt: skip
    domain = etree.fromstring(domain_builder.build(domain))
    assert domain.find("os/type").get("machine") == "pc-i440fx-7.2"
    assert domain.find("devices/interface/model").get("type") == "e1000"
    assert domain.find("clock").get("offset") == "localtime"


def test_other_architecture_has_none_of_the_pcs_devices():
    domain = built(architecture="aarch64")
    assert domain.find("os/type").get("arch") == "aarch64"
    assert domain.find("sysinfo") is None
    assert domain.find("features/apic") is None
    assert domain.find("clock/timer") is None


def test_names_may_hold_what_xml_cannot():
    nova = dataclasses.replace(
        NOVA, display_name="a\x00b\x1bc\ud800", image_properties={"os_distro": "x\x07y"}
    )
    found = domain_xml.parse(domain_builder.build(dataclasses.replace(SPEC, nova=nova)), "x").nova
    assert found.display_name == "a\ufffdb\ufffdc\ufffd"
    assert found.image_properties == {"os_distro": "x\ufffdy"}


@pytest.mark.parametrize(
    ("properties", "reason"),
    [
        ({"hw_disk_bus": "fdc"}, "hw_disk_bus is fdc; known are virtio, scsi, sata, ide"),
        ({"hw_vif_model": "novel"}, "hw_vif_model is novel"),
        ({"hw_firmware_type": "coreboot"}, "hw_firmware_type is coreboot; known are bios, uefi"),
        ({"hw_machine_type": "pc,accel=x"}, "no name of a machine type"),
        ({"os_secure_boot": "required"}, "os_secure_boot = required, which is not offered"),
        ({"hw_tpm_version": "2.0"}, "hw_tpm_version"),
        ({"hw_mem_encryption": "True"}, "hw_mem_encryption"),
        ({"hw_disk_bus": "ide", "hw_firmware_type": "uefi"}, "does not go with"),
        ({"hw_architecture": "aarch64"}, "it is for aarch64, and the host runs x86_64"),
        ({"architecture": "ppc64le"}, "ppc64le"),
    ],
)
def test_properties_that_cannot_be_followed(properties, reason):
    with pytest.raises(exception.ImageUnacceptable, match=reason):
        domain_builder.check_properties("image", properties, "x86_64")


@pytest.mark.parametrize(
    "properties",
    [
        {},
        {"hw_architecture": "amd64", "hw_disk_bus": "scsi", "os_secure_boot": "optional"},
        {"hw_mem_encryption": "false", "hw_firmware_type": "bios", "hw_rng_model": "virtio"},
    ],
)
def test_properties_that_are_all_right(properties):
    domain_builder.check_properties("image", properties, "x86_64")
