# SPDX-License-Identifier: Apache-2.0
"""The calls that are made to a libvirt domain; those of its life are in ``guest_life.py``."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import libvirt
import libvirt_qemu
from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.guest_life import GuestLife

LOG = logging.getLogger(__name__)

POWER_STATES: Final = {
    libvirt.VIR_DOMAIN_NOSTATE: power_state.NOSTATE,
    libvirt.VIR_DOMAIN_RUNNING: power_state.RUNNING,
    # A guest that waits for its own I/O runs, in a user's eyes.
    libvirt.VIR_DOMAIN_BLOCKED: power_state.RUNNING,
    libvirt.VIR_DOMAIN_PAUSED: power_state.PAUSED,
    libvirt.VIR_DOMAIN_SHUTDOWN: power_state.SHUTDOWN,
    libvirt.VIR_DOMAIN_SHUTOFF: power_state.SHUTDOWN,
    libvirt.VIR_DOMAIN_CRASHED: power_state.CRASHED,
    libvirt.VIR_DOMAIN_PMSUSPENDED: power_state.SUSPENDED,
}

JOB_KINDS: Final = {
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_PULL: "pull",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COPY: "copy",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT: "commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_ACTIVE_COMMIT: "active commit",
    libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_BACKUP: "backup",
}

_AGENT_LATE: Final = {
    libvirt.VIR_ERR_AGENT_UNRESPONSIVE,
    # Only of newer versions.
    getattr(libvirt, "VIR_ERR_AGENT_COMMAND_TIMEOUT", libvirt.VIR_ERR_AGENT_UNRESPONSIVE),
}

# What fsFreeze and fsThaw may take beyond the agent's own answer: libvirt first synchronises with
# the agent, which it bounds by itself.
_AGENT_MARGIN = 10.0

_JOB_POLL: Final = 0.05


@dataclasses.dataclass(frozen=True)
class BlockJob:
    """:ivar kind: a value of :data:`JOB_KINDS`.

    :ivar current: how far it is, in a unit of the hypervisor's own, out of ``end``. That both are
        equal does not mean that the job is done: it may not have begun to count.
    """

    kind: str
    current: int
    end: int


class Guest(GuestLife):
    """A domain: what it is, its jobs, its agent, its devices. Its life is in the base class."""

    # -- what it is ---------------------------------------------------------------------------

    def power_state(self) -> int:
        """A number of :mod:`nova_snap.compute.power_state`."""
        state: int = self._ask("state", lambda dom: dom.state()[0])
        return POWER_STATES.get(state, power_state.NOSTATE)

    def is_active(self) -> bool:
        """A hypervisor process runs for it: its disks are in use."""
        return bool(self._ask("isActive", lambda dom: dom.isActive()))

    def number(self) -> int:
        """libvirt's number of this process of the guest: another one after each start; -1 when it
        is off."""
        number: int = self._ask("ID", lambda dom: dom.ID())
        return number

    def is_being_saved(self) -> bool:
        """libvirt writes its memory to disk just now; it is off when that is done."""
        job = self._ask("jobStats", lambda dom: dom.jobStats())
        runs = job.get("type", libvirt.VIR_DOMAIN_JOB_NONE) != libvirt.VIR_DOMAIN_JOB_NONE
        return bool(runs and job.get("operation") == libvirt.VIR_DOMAIN_JOB_OPERATION_SAVE)

    def is_persistent(self) -> bool:
        return bool(self._ask("isPersistent", lambda dom: dom.isPersistent()))

    def has_managed_save(self) -> bool:
        """Its memory is saved on disk, to be restored at the next start."""
        try:
            return bool(self._ask("hasManagedSaveImage", lambda dom: dom.hasManagedSaveImage(0)))
        except exception.LibvirtOperationFailed as exc:
            # A container's libvirt does not know the question.
            if exc.code != libvirt.VIR_ERR_NO_SUPPORT:
                raise
            return False

    def xml(self) -> str:
        """The XML of what runs, or of what would be started."""
        xml: str = self._ask("XMLDesc", lambda dom: dom.XMLDesc(0))
        return xml

    def persistent_xml(self) -> str:
        """The XML to define this domain again from, secrets included."""
        flags = libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE
        xml: str = self._ask("XMLDesc", lambda dom: dom.XMLDesc(flags))
        return xml

    def describe(self) -> domain_xml.Domain:
        """:raises nova_snap.exception.InvalidDomain: if its XML makes no sense."""
        return domain_xml.parse(self.xml(), self.name)

    def disk_capacity(self, target: str) -> int:
        """Bytes that the guest sees of a disk, such as ``vda``."""
        capacity: int = self._ask("blockInfo", lambda dom: dom.blockInfo(target, 0)[0])
        return capacity

    # -- its block jobs -----------------------------------------------------------------------

    def block_job(self, target: str) -> BlockJob | None:
        """The job that is active on a disk, if there is one."""
        info = self._ask("blockJobInfo", lambda dom: dom.blockJobInfo(target, 0))
        if not info:
            return None
        kind = JOB_KINDS.get(info["type"], f"type {info['type']}")
        return BlockJob(kind=kind, current=info["cur"], end=info["end"])

    def start_copy(self, target: str, destination_xml: str, mib_per_second: int) -> None:
        """Start a shallow copy into a file that exists, while the domain is persistent.

        :param destination_xml: a ``<disk>`` with format and backing chain.
        :param mib_per_second: the most that it copies; 0 is no limit.
        """
        limit = {libvirt.VIR_DOMAIN_BLOCK_COPY_BANDWIDTH: mib_per_second * units.Mi}
        parameters = limit if mib_per_second else None
        flags = (
            libvirt.VIR_DOMAIN_BLOCK_COPY_SHALLOW
            | libvirt.VIR_DOMAIN_BLOCK_COPY_REUSE_EXT
            | libvirt.VIR_DOMAIN_BLOCK_COPY_TRANSIENT_JOB
        )
        self._call(
            "blockCopy", lambda dom: dom.blockCopy(target, destination_xml, parameters, flags)
        )

    def start_rebase_copy(self, target: str, destination: str, mib_per_second: int) -> None:
        """Start the same copy on a libvirt without transient jobs.

        The domain must be transient, and the destination has the disk's own format.
        """
        flags = (
            libvirt.VIR_DOMAIN_BLOCK_REBASE_COPY
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_SHALLOW
        )
        self._call(
            "blockRebase", lambda dom: dom.blockRebase(target, destination, mib_per_second, flags)
        )

    def abort_block_job(self, target: str) -> None:
        """End the job, and return when it has ended.

        A copy that was ready leaves its destination as the disk was at that moment.
        """
        self._call("blockJobAbort", lambda dom: dom.blockJobAbort(target, 0))

    # -- its backup job -----------------------------------------------------------------------

    def begin_backup(self, xml: str, seconds: float | None = None) -> None:
        """Begin a backup job whose scratch files exist; when this returns, its instant is over."""
        flags = libvirt.VIR_DOMAIN_BACKUP_BEGIN_REUSE_EXTERNAL
        self._call("backupBegin", lambda dom: dom.backupBegin(xml, None, flags), seconds)

    def backup_socket(self) -> str | None:
        """Where the backup job that runs is exported; ``None`` if none runs, "" if not on a
        unix socket."""
        try:
            xml = self._ask("backupGetXMLDesc", lambda dom: dom.backupGetXMLDesc(0))
        except exception.LibvirtOperationFailed as exc:
            if exc.code == libvirt.VIR_ERR_NO_DOMAIN_BACKUP:
                return None
            raise
        return domain_xml.backup_socket(xml, self.name)

    def has_lost_job(self) -> bool:
        """libvirt waits for the end of a backup job of which it knows nothing any more.

        A libvirt (9.0) that dies while it begins one has noted that there is a job, and not yet
        which; it lets no other job of that kind begin until the guest has been stopped.
        """
        try:
            self._ask("jobInfo", lambda dom: dom.jobInfo())
        except exception.LibvirtOperationFailed as exc:
            unknown = exc.code == libvirt.VIR_ERR_INTERNAL_ERROR
            return unknown and self.backup_socket() is None
        return False

    def has_lost_copy(self, disk: domain_xml.Disk) -> bool:
        """libvirt shows a copy of the disk that no job carries out.

        A libvirt (9.0) that dies as QEMU ends one finds no job when it is started again, and keeps
        what its definition of the disk said until the guest has been stopped.

        :param disk: of this guest's :meth:`describe`.
        """
        if disk.mirror is None or self.block_job(disk.target) is not None:
            return False
        # The copy may have ended in between.
        return (
            self.describe().disk(disk.target).mirror is not None
            and self.block_job(disk.target) is None
        )

    # -- what libvirt has no call for -----------------------------------------------------------

    def stop_nbd_server(self) -> bool:
        """Stop QEMU's NBD server, of which there is one, as used by backup jobs.

        :returns: whether one ran.
        """
        return "return" in self._monitor("nbd-server-stop")

    def drop_files(self, directory: str) -> int:
        """Have QEMU close the files of a directory that it has open for no disk and for no job that
        libvirt knows of. A backup into one of them is ended before.

        :returns: how many.
        """
        beginning = os.path.join(directory, "")
        dropped = 0
        # A file has two nodes, of which the one below is in use as long as the other is there.
        for _layer in range(2):
            nodes = self._monitor("query-named-block-nodes", flat=True).get("return", [])
            names = [node["node-name"] for node in nodes if _path(node).startswith(beginning)]
            self._end_backups(names)
            for name in names:
                dropped += "return" in self._monitor("blockdev-del", **{"node-name": name})
        return dropped

    def _end_backups(self, nodes: Collection[str]) -> None:
        """End QEMU's own backup jobs of a guest that has none by libvirt.

        :param nodes: what it copies to; without any there is nothing to end.
        """
        deadline = time.monotonic() + self.patience
        while nodes and time.monotonic() < deadline:
            found = self._monitor("query-jobs").get("return", [])
            jobs = [job for job in found if job["type"] == "backup"]
            if not jobs:
                return
            for job in jobs:
                ended = job["status"] == "concluded"
                LOG.warning("Ending job %s of guest %s, which libvirt forgot", job["id"], self.name)
                self._monitor("job-dismiss" if ended else "job-cancel", id=job["id"])
            threading.Event().wait(_JOB_POLL)

    def _monitor(self, command: str, **arguments: Any) -> Mapping[str, Any]:
        text = json.dumps({"execute": command, "arguments": arguments})
        answer: Mapping[str, Any] = json.loads(
            self._call(
                "qemuMonitorCommand", lambda dom: libvirt_qemu.qemuMonitorCommand(dom, text, 0)
            )
        )
        return answer

    # -- its agent ----------------------------------------------------------------------------

    def set_agent_timeout(self, seconds: int | None) -> None:
        """Bound libvirt's own wait for the agent; ``None`` is libvirt's default, no bound."""
        value = libvirt.VIR_DOMAIN_AGENT_RESPONSE_TIMEOUT_BLOCK if seconds is None else seconds
        self._call("agentSetResponseTimeout", lambda dom: dom.agentSetResponseTimeout(value, 0))

    def ask_agent_for_time(self, seconds: float) -> None:
        """Ask the agent something harmless, to see whether it answers.

        :param seconds: how long it may take.
        :raises nova_snap.exception.AgentUnresponsive: if it does not answer.
        :raises nova_snap.exception.AgentError: if it answers with an error.
        """
        self._agent_call("answer", "getTime", lambda dom: len(dom.getTime(0)), seconds)

    def freeze(self, seconds: float) -> int:
        """Freeze all the guest's file systems.

        :param seconds: how long the agent may take.
        :returns: how many were frozen.
        :raises nova_snap.exception.AgentUnresponsive: if no answer came in time; the guest may
            become frozen later all the same.
        :raises nova_snap.exception.AgentError: if the agent answers that it could not.
        """
        return self._agent_call("freeze", "fsFreeze", lambda dom: dom.fsFreeze(None, 0), seconds)

    def thaw(self, seconds: float) -> int:
        """Thaw all the guest's file systems; harmless for a guest that is not frozen.

        :param seconds: how long the agent may take.
        :returns: how many were thawed.
        :raises nova_snap.exception.AgentError: also :class:`AgentUnresponsive`, as there.
        """
        return self._agent_call("thaw", "fsThaw", lambda dom: dom.fsThaw(None, 0), seconds)

    def _agent_call(
        self, verb: str, operation: str, function: Callable[[Any], int], seconds: float
    ) -> int:
        try:
            return self._call(operation, function, seconds + _AGENT_MARGIN)
        except exception.WaitTimeout as exc:
            raise exception.AgentUnresponsive(
                domain=self.name, operation=verb, reason=str(exc)
            ) from exc
        except exception.LibvirtOperationFailed as exc:
            late = exc.code in _AGENT_LATE
            error = exception.AgentUnresponsive if late else exception.AgentError
            raise error(domain=self.name, operation=verb, reason=exc.reason) from exc

    # -- its devices --------------------------------------------------------------------------

    def detach_device(self, xml: str) -> None:
        """Ask the running guest to let go of a device. It may take its time to do so."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        self._call("detachDeviceFlags", lambda dom: dom.detachDeviceFlags(xml, flags))

    def attach_device(self, xml: str) -> None:
        """Give the running guest a device."""
        flags = libvirt.VIR_DOMAIN_AFFECT_LIVE
        self._call("attachDeviceFlags", lambda dom: dom.attachDeviceFlags(xml, flags))


def _path(node: Mapping[str, Any]) -> str:
    """Of the file of one of QEMU's block nodes.

    QEMU tells it as JSON (block/: a "json:" file name) where a plain path would not do, as of a
    layer that was given another backing file than its header has: the options of each layer then
    hold those of what it lies on.
    """
    told: str = node["file"]
    if not told.startswith("json:"):
        return told
    options: Any = json.loads(told.removeprefix("json:"))
    while isinstance(options, dict) and "filename" not in options:
        options = options.get("file")
    return str(options["filename"]) if isinstance(options, dict) else ""
