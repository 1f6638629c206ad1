# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for a guest and its host, which can be told to fail in each call."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import capabilities, domain_xml
from nova_snap.virt.libvirt.guest import BlockJob

UUID = "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"
NAME = "instance-00000001"
NEW = capabilities.Capabilities("QEMU", 9_000_000, 7_002_000)
OLD = capabilities.Capabilities("QEMU", 3_004_000, 2_008_000)

QUESTIONS = {
    "power_state",
    "is_active",
    "number",
    "is_being_saved",
    "is_persistent",
    "has_managed_save",
    "xml",
    "persistent_xml",
    "describe",
    "block_job",
    "autostart",
    "disk_capacity",
    "has_lost_job",
    "has_lost_copy",
}

HOSTDEVS = {
    "0000:06:12.0": """
    <hostdev mode='subsystem' type='pci' managed='yes'>
      <source><address domain='0x0000' bus='0x06' slot='0x12' function='0x0'/></source>
      <alias name='hostdev0'/>
    </hostdev>""",
    "fa:16:3e:01:02:03": """
    <interface type='hostdev' managed='yes'>
      <mac address='fa:16:3e:01:02:03'/>
      <source><address type='pci' domain='0x0000' bus='0x07' slot='0x10' function='0x1'/></source>
      <alias name='hostdev1'/>
    </interface>""",
}


def failed(operation: str, reason: str = "it was told to fail") -> exception.NovaSnapError:
    """libvirt refuses."""
    return exception.LibvirtOperationFailed(operation=operation, domain=NAME, code=1, reason=reason)


class FakeGuest:
    """A domain in memory: what :class:`nova_snap.virt.libvirt.guest.Guest` offers, no more.

    :ivar calls: names of the calls that were made, in order.
    :ivar errors: errors to raise by the call's name: one, for ever, or a list, one each time.
    :ivar before: called before a call is answered, by its name.
    """

    patience = 0.0

    def __init__(
        self, state: int = power_state.RUNNING, disk: str = "/disk", disk_format: str = "qcow2"
    ) -> None:
        self.name, self.uuid = NAME, UUID
        self.state, self.active = state, state != power_state.SHUTDOWN
        self.saved = False
        self.saving = False
        self.id = 7
        self.persistent = True
        self.starts_automatically = False
        self.job: BlockJob | None = None
        self.mirror = ""
        self.copied_to: str | None = None
        self.polls_until_ready = 2
        self.interruptions = 0
        self.frozen = False
        self.devices = dict(HOSTDEVS)
        self.defined = dict(HOSTDEVS)
        self.agent_timeouts: list[int | None] = []
        self.disk, self.disk_format = disk, disk_format
        self.calls: list[str] = []
        self.errors: dict[str, Exception | list[Exception | None]] = {}
        self.before: dict[str, Callable[[], None]] = {}

    def _enter(self, call: str) -> None:
        self.calls.append(call)
        self.before.get(call, lambda: None)()
        error = self.errors.get(call)
        if isinstance(error, list):
            error = error.pop(0) if error else None
        if error is not None:
            raise error

    def _need_active(self, operation: str) -> None:
        if not self.active:
            raise failed(operation, "domain is not running")

    def stop(self) -> None:
        """The guest's process ends."""
        self.active, self.state, self.job = False, power_state.SHUTDOWN, None

    def changes(self) -> list[str]:
        """The calls that were made to change something."""
        return [call for call in self.calls if call not in QUESTIONS]

    def power_state(self) -> int:
        self._enter("power_state")
        return self.state

    def is_active(self) -> bool:
        self._enter("is_active")
        return self.active

    def number(self) -> int:
        self._enter("number")
        return self.id if self.active else -1

    def is_being_saved(self) -> bool:
        self._enter("is_being_saved")
        return self.saving

    def is_persistent(self) -> bool:
        self._enter("is_persistent")
        return self.persistent

    def has_managed_save(self) -> bool:
        self._enter("has_managed_save")
        return self.saved

    def xml(self) -> str:
        self._enter("xml")
        return self._xml(self.devices)

    def _xml(self, devices: dict[str, str]) -> str:
        return f"""<domain type='kvm'><name>{NAME}</name><uuid>{UUID}</uuid><devices>
          <disk type='file' device='disk'><driver name='qemu' type='{self.disk_format}'/>
          <source file='{self.disk}'/><target dev='vda' bus='virtio'/>{self.mirror}</disk>
          {"".join(devices.values())}</devices></domain>"""

    def persistent_xml(self) -> str:
        return re.sub("<mirror.*/>", "", self._xml(self.defined))

    def describe(self) -> domain_xml.Domain:
        if self.job is not None and self.job.kind == "copy" and self.copied_to:
            self.polls_until_ready -= 1
            ready = "ready='yes'" if self.polls_until_ready <= 0 else ""
            self.mirror = f"<mirror type='file' file='{self.copied_to}' job='copy' {ready}/>"
        else:
            self.mirror = ""
        return domain_xml.parse(self.xml(), self.name)

    def disk_capacity(self, target: str) -> int:
        self._enter("disk_capacity")
        return 1 << 20

    def block_job(self, target: str) -> BlockJob | None:
        self._enter("block_job")
        self._need_active("blockJobInfo")
        return self.job

    def start_copy(self, target: str, destination_xml: str, mib_per_second: int) -> None:
        self._enter("start_copy")
        self.copied_to = re.findall('source file="([^"]*)"', destination_xml)[0]
        self.job = BlockJob("copy", 1, 1)

    def start_rebase_copy(self, target: str, destination: str, mib_per_second: int) -> None:
        self._enter("start_rebase_copy")
        if self.persistent:
            raise failed("blockRebase", "domain is not transient")
        self.copied_to = destination
        self.job = BlockJob("copy", 1, 1)

    def abort_block_job(self, target: str) -> None:
        self._enter("abort_block_job")
        self._need_active("blockJobAbort")
        if self.job is None:
            raise failed("blockJobAbort", "no active block job")
        self.job = None

    def has_lost_job(self) -> bool:
        self._enter("has_lost_job")
        return False

    def has_lost_copy(self, disk: domain_xml.Disk) -> bool:
        self._enter("has_lost_copy")
        return disk.mirror is not None and self.job is None

    def set_agent_timeout(self, seconds: int | None) -> None:
        self._enter("set_agent_timeout")
        self.agent_timeouts.append(seconds)

    def ask_agent_for_time(self, seconds: float) -> None:
        self._enter("ask_agent_for_time")

    def freeze(self, seconds: float) -> int:
        self._enter("freeze")
        self.frozen = True
        return 1

    def thaw(self, seconds: float) -> int:
        self._enter("thaw")
        self.frozen = False
        return 1

    def managed_save(self, seconds: float) -> None:
        self._enter("managed_save")
        assert not self.devices, "libvirt refuses to save a guest with devices of the host"
        self.saved = True
        self.stop()

    def launch(self, paused: bool, seconds: float) -> None:
        self._enter("launch")
        self.active, self.saved = True, False
        self.state = power_state.PAUSED if paused else power_state.RUNNING

    def drop_managed_save(self) -> None:
        self._enter("drop_managed_save")
        self.saved = False

    def suspend(self) -> None:
        self._enter("suspend")
        self.state = power_state.PAUSED

    def resume(self) -> None:
        self._enter("resume")
        self.state = power_state.RUNNING

    def undefine_keeping_state(self, keep_nvram: bool, keep_tpm: bool) -> None:
        self._enter("undefine_keeping_state")
        self.persistent, self.starts_automatically = False, False

    def autostart(self) -> bool:
        self._enter("autostart")
        return self.starts_automatically

    def set_autostart(self, value: bool) -> None:
        self._enter("set_autostart")
        self.starts_automatically = value

    def detach_device(self, xml: str) -> None:
        self._enter("detach_device")
        self._need_active("detachDevice")
        del self.devices[self._address(xml)]

    def attach_device(self, xml: str) -> None:
        self._enter("attach_device")
        self._need_active("attachDevice")
        self.devices[self._address(xml)] = xml

    def _address(self, xml: str) -> str:
        if mac := re.search("mac address=[\"']([^\"']*)", xml):
            return mac[1]
        return next(key for key, known in HOSTDEVS.items() if "0x12" in known and "0x12" in xml)


@dataclasses.dataclass
class FakeHost:
    """A host of one guest. :ivar errors: as the guest's."""

    guest: FakeGuest
    caps: capabilities.Capabilities = NEW
    defined: list[str] = dataclasses.field(default_factory=list)
    errors: dict[str, Exception] = dataclasses.field(default_factory=dict)
    operation_timeout: int = 0

    def capabilities(self) -> capabilities.Capabilities:
        return self.caps

    def get_guest(self, name: str) -> Any:
        if name != self.guest.name or not (self.guest.persistent or self.guest.active):
            raise exception.DomainNotFound(domain=name)
        return self.guest

    def get_guest_by_uuid(self, uuid: str) -> Any:
        if "get_guest" in self.errors:
            raise self.errors["get_guest"]
        if uuid != self.guest.uuid:
            raise exception.DomainNotFound(domain=uuid)
        return self.get_guest(self.guest.name)

    def define(self, xml: str, name: str) -> Any:
        if "define" in self.errors:
            raise self.errors["define"]
        self.defined.append(xml)
        self.guest.persistent = True
        return self.guest


class FakeImages:
    """The image service. :ivar status: of every image; ``None``: there is none.

    :ivar error: what it answers with instead.
    """

    def __init__(self) -> None:
        self.status: str | None = "queued"
        self.error: Exception | None = None

    def get(self, _context: Any, image_id: str) -> Any:
        if self.error is not None:
            raise self.error
        if self.status is None:
            raise exception.ImageNotFound(image_id=image_id)
        return {"id": image_id, "status": self.status}
