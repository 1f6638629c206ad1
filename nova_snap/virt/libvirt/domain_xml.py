# SPDX-License-Identifier: Apache-2.0
"""What a domain's XML says, as plain data. Nothing here asks libvirt or opens a disk."""

import dataclasses
import grp
import pwd
import uuid
from collections.abc import Iterator, Sequence
from typing import Final

from lxml import etree

from nova_snap import exception
from nova_snap.virt.libvirt import container, domain_devices, domain_disks, nova_metadata
from nova_snap.virt.libvirt.domain_devices import HostDevice
from nova_snap.virt.libvirt.domain_disks import Disk, Layer, Mirror

__all__ = [
    "Disk",
    "Domain",
    "HostDevice",
    "Layer",
    "Mirror",
    "backup_socket",
    "dac_owner",
    "device_exists",
    "parse",
    "read_root",
    "without_secrets",
]

MAX_XML_BYTES: Final = 4 * 1024 * 1024
# The number after it means "nobody" to the kernel.
_MAX_ID: Final = 2**32 - 2
# What a column of the database holds.
_MAX_NUMBER: Final = 2**31 - 1

AGENT_CHANNEL: Final = "org.qemu.guest_agent.0"

_LIBOSINFO = "{http://libosinfo.org/xmlns/libvirt/domain/1.0}os"

# <memory unit=...>, as libvirt documents it.
_UNITS: Final = {
    "b": 1, "bytes": 1,
    "KB": 10**3, "k": 2**10, "KiB": 2**10,
    "MB": 10**6, "M": 2**20, "MiB": 2**20,
    "GB": 10**9, "G": 2**30, "GiB": 2**30,
    "TB": 10**12, "T": 2**40, "TiB": 2**40,
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Domain:
    """:ivar virt_type: such as ``kvm``, ``qemu`` or ``lxc``.

    :ivar agent_channel: ``connected`` or ``disconnected`` for a guest that runs, ``defined`` for
        one that does not, ``None`` if it has no channel for an agent.
    """

    uuid: str
    name: str
    virt_type: str
    vcpus: int
    memory_mb: int
    architecture: str | None
    os_type: str | None
    disks: Sequence[Disk]
    host_devices: Sequence[HostDevice]
    agent_channel: str | None
    nova: nova_metadata.NovaMetadata

    def root_disk(self) -> Disk:
        """The first disk that is neither a CD nor a floppy: where a Nova guest boots from.

        :raises nova_snap.exception.DiskNotFound: if there is none.
        """
        for disk in self.disks:
            if disk.device == "disk":
                return disk
        raise exception.DiskNotFound(domain=self.name)

    def disk(self, target: str) -> Disk:
        """:raises nova_snap.exception.DiskNotFound: if there is no such disk."""
        for disk in self.disks:
            if disk.target == target:
                return disk
        raise exception.DiskNotFound(domain=self.name)


def parse(xml: str, name: str) -> Domain:
    """:param name: what to call the domain in errors.

    :raises nova_snap.exception.InvalidDomain: if this is no domain's XML.
    """
    root = read_root(xml, name)
    return Domain(
        uuid=_uuid(root, name),
        name=_text(root, "name", name),
        virt_type=root.get("type", ""),
        vcpus=_bounded(_integer(root, "vcpu", name, default=1), "vcpu", name, least=1),
        memory_mb=_memory_mb(root, name),
        architecture=_attribute(root, "os/type", "arch"),
        os_type=_os_type(root),
        disks=tuple(_disks(root, name)),
        host_devices=tuple(domain_devices.parse(root, name)),
        agent_channel=_agent_channel(root),
        nova=nova_metadata.parse(root),
    )


def _disks(root: etree._Element, name: str) -> Iterator[Disk]:
    for element in root.iterfind("devices/disk"):
        yield domain_disks.parse(element, name)
    if root.get("type") == "lxc":
        yield from container.disks(root, name)


def device_exists(xml: str, device: HostDevice, name: str) -> bool:
    """Whether a domain still has a device.

    :param xml: of the domain.
    :param device: which need not be one of the host's.
    :raises nova_snap.exception.InvalidDomain: if this is no domain's XML.
    """
    return domain_devices.exists(read_root(xml, name), device, name)


def backup_socket(xml: str, name: str) -> str:
    """Path of the unix socket of a backup job; empty if it has none.

    :param xml: of the job (``<domainbackup>``).
    :raises nova_snap.exception.InvalidDomain: if it cannot be read.
    """
    return _attribute(read_root(xml, name, "domainbackup"), "server", "socket") or ""


def dac_owner(xml: str) -> tuple[int, int] | None:
    """The user and group, as numbers, that the hypervisor process of a domain runs as.

    :param xml: of a domain that runs.
    :returns: ``None`` if libvirt does not tell, or tells names that this host does not know.
    """
    for label in read_root(xml, "").iterfind("seclabel[@model='dac']/label"):
        user, _, group = (label.text or "").partition(":")
        try:
            uid = int(user) if user.startswith("+") else pwd.getpwnam(user).pw_uid
            gid = int(group) if group.startswith("+") else grp.getgrnam(group).gr_gid
        except (KeyError, ValueError):
            return None
        if not 0 <= min(uid, gid) <= max(uid, gid) <= _MAX_ID:
            return None
        return uid, gid
    return None


def without_secrets(xml: str, name: str) -> str:
    """The XML as it may be logged: without the passwords of consoles.

    :raises nova_snap.exception.InvalidDomain: if this is no domain's XML.
    """
    root = read_root(xml, name)
    for element in root.iter():
        element.attrib.pop("passwd", None)
    return str(etree.tostring(root, encoding="unicode"))


def read_root(xml: str, name: str, tag: str = "domain") -> etree._Element:
    """The outermost element, nothing outside of the text being read for it.

    :param name: what to call the domain in errors.
    :raises nova_snap.exception.InvalidDomain: if it is broken, too long or another one.
    """
    # What is no text is not well-formed then, and the parser says so.
    data = xml.encode("utf-8", "surrogatepass")
    if len(data) > MAX_XML_BYTES:
        reason = f"its XML is longer than {MAX_XML_BYTES} bytes"
        raise exception.InvalidDomain(domain=name, reason=reason)
    parser = etree.XMLParser(
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )
    try:
        root = etree.fromstring(data, parser)
    except etree.XMLSyntaxError as exc:
        raise exception.InvalidDomain(domain=name, reason=f"its XML is broken: {exc}") from exc
    if root.getroottree().docinfo.doctype:
        raise exception.InvalidDomain(domain=name, reason="its XML has a document type")
    if root.tag != tag:
        reason = f"its XML begins with <{root.tag}>, not with <{tag}>"
        raise exception.InvalidDomain(domain=name, reason=reason)
    return root


def _text(root: etree._Element, path: str, name: str) -> str:
    text = (root.findtext(path) or "").strip()
    if not text:
        raise exception.InvalidDomain(domain=name, reason=f"its XML has no <{path}>")
    return text


def _uuid(root: etree._Element, name: str) -> str:
    text = _text(root, "uuid", name)
    try:
        return str(uuid.UUID(text))
    except ValueError:
        reason = f"its <uuid> is {text:.60}, which is none"
        raise exception.InvalidDomain(domain=name, reason=reason) from None


def _attribute(root: etree._Element, path: str, attribute: str) -> str | None:
    element = root.find(path)
    return None if element is None else element.get(attribute)


def _integer(root: etree._Element, path: str, name: str, default: int) -> int:
    text = (root.findtext(path) or "").strip()
    if not text:
        return default
    try:
        return int(text)
    except ValueError:
        reason = f"<{path}> is {text[:60]!r}, not a number"
        raise exception.InvalidDomain(domain=name, reason=reason) from None


def _memory_mb(root: etree._Element, name: str) -> int:
    unit = _attribute(root, "memory", "unit") or "KiB"
    if unit not in _UNITS:
        reason = f"<memory> has the unit {unit!r}, which is none of libvirt's"
        raise exception.InvalidDomain(domain=name, reason=reason)
    size = _integer(root, "memory", name, default=0) * _UNITS[unit] // 2**20
    return _bounded(size, "memory", name)


def _bounded(value: int, tag: str, name: str, least: int = 0) -> int:
    if not least <= value <= _MAX_NUMBER:
        reason = f"its <{tag}> is more, or less, than any guest has"
        raise exception.InvalidDomain(domain=name, reason=reason)
    return value


def _os_type(root: etree._Element) -> str | None:
    """``windows`` or ``linux``, where libosinfo's metadata tell."""
    for element in root.iterfind(f"metadata//{_LIBOSINFO}"):
        return "windows" if "microsoft.com" in element.get("id", "") else "linux"
    return None


def _agent_channel(root: etree._Element) -> str | None:
    for element in root.iterfind("devices/channel"):
        if _attribute(element, "target", "name") == AGENT_CHANNEL:
            return _attribute(element, "target", "state") or "defined"
    return None
