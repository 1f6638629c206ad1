# SPDX-License-Identifier: Apache-2.0
"""The devices in a domain's XML that have to leave the guest before its memory can be saved."""

import copy
import dataclasses
from typing import Final

from lxml import etree

from nova_snap import exception

# A network port that is the host's own hardware: a virtual function, or a vDPA device.
_PORTS = ("hostdev", "vdpa")

# Of the parts of a PCI address, the domain is the longest.
_MAX_PART: Final = 0xFFFFFFFF


@dataclasses.dataclass(frozen=True)
class HostDevice:
    """A device of the host that a guest uses.

    :ivar kind: ``pci``, ``mdev``, or ``sriov`` for a network port.
    :ivar address: where it is on the host, or the port's MAC address: what identifies it.
    :ivar xml: its element, to detach and to attach it with.
    """

    kind: str
    address: str
    xml: str


def parse(root: etree._Element, domain: str) -> list[HostDevice]:
    """:param root: a ``<domain>``.

    :param domain: what to call it in errors.
    :raises nova_snap.exception.InvalidDomain: if libvirt would not have written it.
    """
    found = []
    for element in root.iterfind("devices/hostdev[@mode='subsystem']"):
        kind = element.get("type", "")
        if kind in ("pci", "mdev"):
            found.append(HostDevice(kind, _address(element, domain), plain(element)))
    for element in root.iterfind("devices/interface"):
        if element.get("type") in _PORTS:
            found.append(HostDevice("sriov", _address(element, domain), plain(element)))
    return found


def exists(root: etree._Element, device: HostDevice, domain: str) -> bool:
    """Whether a domain has a device; also one that :func:`parse` would not have found.

    :param root: a ``<domain>``.
    :param domain: what to call it in errors.
    """
    wanted = etree.fromstring(device.xml)
    return any(
        _is_at(element, device.address, domain)
        for element in root.iterfind(f"devices/{wanted.tag}")
        # A USB device has a bus and a number too.
        if wanted.tag != "hostdev" or element.get("type") == wanted.get("type")
    )


def _is_at(element: etree._Element, address: str, domain: str) -> bool:
    try:
        return _address(element, domain) == address
    except exception.InvalidDomain:
        # What has none that can be read is another device: this one's could be.
        return False


def plain(element: etree._Element) -> str:
    """The element without what libvirt gives anew at each attach."""
    # By itself it has the namespaces that it uses, and not all of the domain's: these may be long.
    alone = copy.deepcopy(element)
    alone.tail = None
    for child in alone.findall("alias"):
        alone.remove(child)
    # Not as ASCII: a name that has other characters cannot be written so.
    return str(etree.tostring(alone, encoding="unicode"))


def _address(element: etree._Element, name: str) -> str:
    """What tells a device from the others with the same tag."""
    if element.tag == "disk":
        target = element.find("target")
        return "" if target is None else str(target.get("dev", ""))
    mac = element.find("mac")
    if mac is not None:
        return str(mac.get("address", "")).lower()
    address = element.find("source/address")
    if address is None:
        return ""
    if address.get("uuid"):
        return str(address.get("uuid"))
    parts = (address.get(key, "0x0") for key in ("domain", "bus", "slot", "function"))
    domain, bus, slot, function = (_number(part, name) for part in parts)
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _number(text: str, domain: str) -> int:
    """A part of an address, in any base that C knows."""
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= _MAX_PART:
        reason = f"a device's address has the part {text[:20]!r}, which is none"
        raise exception.InvalidDomain(domain=domain, reason=reason)
    return number
