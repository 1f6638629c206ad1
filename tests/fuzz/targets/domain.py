# SPDX-License-Identifier: Apache-2.0
"""The XML of domains, and of backup jobs: guests' owners write parts of it."""

import random
from collections.abc import Hashable, Sequence
from pathlib import Path

from lxml import etree

from nova_snap import exception
from nova_snap.virt.libvirt import console, devices, domain_xml, nova_metadata
from tests.fuzz import xml_mutation
from tests.fuzz.target import Finding, Target

_SEEDS = Path(__file__).parents[1] / "seeds"
_NAME = "instance-1"
# Each is looked for in the whole XML: of a domain that has hundreds all would take half a minute.
_MOST_DEVICES = 8


def seeds() -> list[bytes]:
    return [path.read_bytes() for path in sorted(_SEEDS.glob("*.xml"))]


def text(data: bytes) -> str:
    """As libvirt's bindings hand it over."""
    return data.decode(errors="replace")


class Domain(Target):
    guided = True

    def seeds(self) -> Sequence[bytes]:
        return seeds()

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        return xml_mutation.of_xml(data, other, dice)

    def run(self, data: bytes) -> Hashable:
        xml = text(data)
        outcomes = [self._parse(xml), self._backup(xml), self._owner(xml), self._log(xml)]
        return tuple(outcomes)

    def _parse(self, xml: str) -> Hashable:
        try:
            found = domain_xml.parse(xml, _NAME)
        except exception.InvalidDomain as error:
            return error.reason[:12]
        if not found.uuid or not found.name:
            raise Finding("a domain without a name is believed")
        own = (*devices.pci_devices(found), *devices.sriov_ports(found))
        for device in own[:_MOST_DEVICES]:
            if not domain_xml.device_exists(xml, device, _NAME):
                raise Finding("a domain does not have a device of its own", device.xml)
        for disk in found.disks:
            # What the methods ask of a disk; none of it may fail.
            str(disk.description), disk.is_local, disk.encrypted, disk.host_decrypted
            if disk.network is not None:
                str(disk.network), disk.network.pool, disk.network.namespace, disk.network.secret
        try:
            root = found.root_disk().source_type
        except exception.DiskNotFound:
            root = None
        nova_metadata.build(found.nova)
        shape = (len(found.disks), len(found.host_devices), found.agent_channel, found.os_type)
        return root, shape, found.nova.image_ref is None

    def _backup(self, xml: str) -> Hashable:
        try:
            return bool(domain_xml.backup_socket(xml, _NAME))
        except exception.InvalidDomain:
            return None

    def _owner(self, xml: str) -> Hashable:
        try:
            owner = domain_xml.dac_owner(xml)
        except exception.InvalidDomain:
            return "invalid"
        if owner is not None and not all(0 <= number < 1 << 32 for number in owner):
            raise Finding("a user is believed that no system has", repr(owner)[:80])
        return owner is None

    def _log(self, xml: str) -> Hashable:
        try:
            shown = domain_xml.without_secrets(xml, _NAME)
        except exception.InvalidDomain:
            return None
        if any("passwd" in element.attrib for element in etree.fromstring(shown.encode()).iter()):
            raise Finding("a password is left in what may be logged")
        try:
            return console.log_path(xml, _NAME) is None
        except exception.NovaSnapError as error:
            return type(error).__name__


TARGET = Domain
