# SPDX-License-Identifier: Apache-2.0
"""The XML of a domain that is to be made.

Of the image's properties it follows those that decide whether the guest comes up at all. One that
it cannot follow is refused, rather than ignored, where the guest would otherwise be another one
than its image asks for.
"""

import dataclasses
import re
from collections.abc import Mapping
from typing import Any, Final

from lxml import etree

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml, nova_metadata

DISK_BUSES: Final = {"virtio": "vda", "scsi": "sda", "sata": "sda", "ide": "hda"}
VIF_MODELS: Final = ("virtio", "e1000", "e1000e", "ne2k_pci", "pcnet", "rtl8139", "vmxnet3")
FIRMWARES: Final = ("bios", "uefi")

# What the image service calls them, and what libvirt and the kernel do.
_ARCHITECTURES: Final = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64", "i386": "i686"}
_MACHINE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_NOT_IN_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_ACPI: Final = ("x86_64", "i686", "aarch64")
_UEFI_MACHINE: Final = {"x86_64": "q35"}

# Properties whose value asks for something that is not offered, and the values that do not.
_NOT_OFFERED: Final[Mapping[str, tuple[str, ...]]] = {
    "os_secure_boot": ("disabled", "optional"),
    "hw_mem_encryption": ("false", "no", "0"),
    "hw_tpm_version": (),
}


@dataclasses.dataclass(frozen=True)
class DomainSpec:
    """What a domain is made of.

    :ivar virt_type: ``kvm`` or ``qemu``.
    :ivar architecture: of the host, such as ``x86_64``.
    :ivar cpu_mode: libvirt's, or ``none``.
    :ivar disk: path of the root disk, which is qcow2.
    :ivar cache: QEMU's cache mode of the disk.
    :ivar console_log: path of the file that the serial console is written to.
    :ivar network: see :class:`nova_snap.virt.driver.SpawnRequest`.
    :ivar image_properties: of the image.
    """

    uuid: str
    name: str
    virt_type: str
    architecture: str
    cpu_mode: str
    vcpus: int
    memory_mb: int
    disk: str
    cache: str
    console_log: str
    network: str
    image_properties: Mapping[str, str]
    nova: nova_metadata.NovaMetadata


def check_properties(image_id: str, properties: Mapping[str, Any], architecture: str) -> None:
    """See that a guest can be made as its image asks for.

    :param architecture: of the host.
    :raises nova_snap.exception.ImageUnacceptable:
    """
    allowed: dict[str, tuple[str, ...]] = {
        "hw_disk_bus": tuple(DISK_BUSES),
        "hw_vif_model": VIF_MODELS,
        "hw_firmware_type": FIRMWARES,
    }
    for name, values in allowed.items():
        value = properties.get(name)
        if value and value not in values:
            raise _unacceptable(image_id, f"{name} is {value}; known are {', '.join(values)}")
    for name, harmless in _NOT_OFFERED.items():
        value = properties.get(name)
        if value and str(value).lower() not in harmless:
            raise _unacceptable(image_id, f"it asks for {name} = {value}, which is not offered")
    machine = properties.get("hw_machine_type")
    if machine and not _MACHINE.fullmatch(machine):
        raise _unacceptable(image_id, f"hw_machine_type {machine!r} is no name of a machine type")
    uefi = properties.get("hw_firmware_type") == "uefi"
    if uefi and not machine and properties.get("hw_disk_bus") == "ide":
        raise _unacceptable(image_id, "hw_disk_bus = ide does not go with hw_firmware_type = uefi")
    wanted = properties.get("hw_architecture") or properties.get("architecture")
    if wanted and _ARCHITECTURES.get(wanted, wanted) != architecture:
        raise _unacceptable(image_id, f"it is for {wanted}, and the host runs {architecture}")


def build(spec: DomainSpec) -> str:
    """The XML to define the domain from."""
    root = etree.Element("domain", type=spec.virt_type)
    _add(root, "name", spec.name)
    _add(root, "uuid", spec.uuid)
    _add(root, "metadata").append(nova_metadata.build(_printable(spec.nova)))
    _add(root, "memory", spec.memory_mb, unit="MiB")
    _add(root, "vcpu", spec.vcpus)
    _add_system(root, spec)
    if spec.architecture in _ACPI:
        features = _add(root, "features")
        _add(features, "acpi")
        if spec.architecture != "aarch64":
            _add(features, "apic")
    _add_cpu(root, spec)
    _add_clock(root, spec)
    for event, action in (
        ("on_poweroff", "destroy"), ("on_reboot", "restart"), ("on_crash", "destroy"),
    ):  # fmt: skip
        _add(root, event, action)
    _add_devices(_add(root, "devices"), spec)
    return str(etree.tostring(root, encoding="unicode", pretty_print=True))


def _add_system(root: etree._Element, spec: DomainSpec) -> None:
    """What firmware starts, and who the guest is told that it is."""
    uefi = spec.image_properties.get("hw_firmware_type") == "uefi"
    machine = spec.image_properties.get("hw_machine_type")
    if uefi and not machine:
        machine = _UEFI_MACHINE.get(spec.architecture)
    system = _add(root, "os", firmware="efi" if uefi else None)
    _add(system, "type", "hvm", arch=spec.architecture, machine=machine)
    if uefi:
        # libvirt picks the firmware's files by what is wanted of it: here, none that lets only
        # signed systems start.
        firmware = _add(system, "firmware")
        for feature in ("enrolled-keys", "secure-boot"):
            _add(firmware, "feature", name=feature, enabled="no")
    _add(system, "boot", dev="hd")
    if spec.architecture in ("x86_64", "i686"):
        _add(system, "smbios", mode="sysinfo")
        values = _add(_add(root, "sysinfo", type="smbios"), "system")
        for name, value in (
            ("manufacturer", "OpenStack Foundation"), ("product", "OpenStack Nova"),
            ("serial", spec.uuid), ("uuid", spec.uuid), ("family", "Virtual Machine"),
        ):  # fmt: skip
            _add(values, "entry", value, name=name)


def _add_cpu(root: etree._Element, spec: DomainSpec) -> None:
    if spec.cpu_mode == "none":
        return
    cpu = _add(root, "cpu", mode=spec.cpu_mode)
    # One socket for each, as Nova does where nobody asks for anything else.
    _add(cpu, "topology", sockets=str(spec.vcpus), cores="1", threads="1")


def _add_clock(root: etree._Element, spec: DomainSpec) -> None:
    windows = spec.image_properties.get("os_type") == "windows"
    clock = _add(root, "clock", offset="localtime" if windows else "utc")
    if spec.architecture in ("x86_64", "i686"):
        _add(clock, "timer", name="pit", tickpolicy="delay")
        _add(clock, "timer", name="rtc", tickpolicy="catchup")
        _add(clock, "timer", name="hpet", present="no")


def _add_devices(devices: etree._Element, spec: DomainSpec) -> None:
    bus = spec.image_properties.get("hw_disk_bus") or "virtio"
    disk = _add(devices, "disk", type="file", device="disk")
    _add(disk, "driver", name="qemu", type="qcow2", cache=spec.cache, discard="unmap")
    _add(disk, "source", file=spec.disk)
    _add(disk, "target", dev=DISK_BUSES[bus], bus=bus)
    if bus == "scsi":
        _add(devices, "controller", type="scsi", model="virtio-scsi")
    _add(devices, "controller", type="usb", model="none")
    _add_interface(devices, spec)
    serial = _add(devices, "serial", type="pty")
    _add(serial, "log", file=spec.console_log, append="off")
    _add(serial, "target", port="0")
    if spec.image_properties.get("hw_qemu_guest_agent", "").lower() in ("yes", "true", "1"):
        channel = _add(devices, "channel", type="unix")
        _add(channel, "target", type="virtio", name=domain_xml.AGENT_CHANNEL)
    balloon = _add(devices, "memballoon", model="virtio")
    _add(balloon, "stats", period="10")
    _add(_add(devices, "rng", model="virtio"), "backend", "/dev/urandom", model="random")


def _add_interface(devices: etree._Element, spec: DomainSpec) -> None:
    if spec.network == "none":
        return
    if spec.network == "user":
        interface = _add(devices, "interface", type="user")
    else:
        interface = _add(devices, "interface", type="network")
        _add(interface, "source", network=spec.network)
    _add(interface, "model", type=spec.image_properties.get("hw_vif_model") or "virtio")


def _add(
    parent: etree._Element, tag: str, text: object = None, **attributes: str | None
) -> etree._Element:
    given = {key: value for key, value in attributes.items() if value is not None}
    child = etree.SubElement(parent, tag, given)
    if text is not None:
        child.text = str(text)
    return child


def _printable(nova: nova_metadata.NovaMetadata) -> nova_metadata.NovaMetadata:
    """Without the characters that no XML can have, which users may give names."""
    changes: dict[str, Any] = {
        field.name: _NOT_IN_XML.sub("\ufffd", value)
        for field in dataclasses.fields(nova)
        if isinstance(value := getattr(nova, field.name), str)
    }
    changes["image_properties"] = {
        _NOT_IN_XML.sub("\ufffd", name): _NOT_IN_XML.sub("\ufffd", value)
        for name, value in nova.image_properties.items()
    }
    return dataclasses.replace(nova, **changes)


def _unacceptable(image_id: str, reason: str) -> exception.ImageUnacceptable:
    return exception.ImageUnacceptable(image_id=image_id, reason=reason)
