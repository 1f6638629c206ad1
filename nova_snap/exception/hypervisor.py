# SPDX-License-Identifier: Apache-2.0
"""libvirt, QEMU, their tools, and the host."""

from nova_snap.exception.base import Invalid, NotFound, NovaSnapError


class DomainNotFound(NotFound):
    domain: str
    msg = "Domain {self.domain} is not defined on this host."


class DiskNotFound(NotFound):
    domain: str
    msg = "Domain {self.domain} has no disk to take a snapshot of."


class InvalidDomain(Invalid):
    domain: str
    reason: str
    msg = "Domain {self.domain} cannot be used: {self.reason}"


class HypervisorError(NovaSnapError):
    """Something went wrong on the compute host."""

    user_msg = "The compute host could not do it; its log says why."


class HypervisorUnavailable(HypervisorError):
    uri: str
    reason: str
    msg = "No connection to libvirt at {self.uri}: {self.reason}"


class LibvirtOperationFailed(HypervisorError):
    """:ivar code: libvirt's error number (``VIR_ERR_*``)."""

    operation: str
    domain: str
    code: int
    reason: str
    msg = "libvirt's {self.operation} failed for domain {self.domain}: {self.reason}"


class WaitTimeout(HypervisorError):
    """:ivar seconds: how long was waited."""

    what: str
    seconds: float
    msg = "Waited {self.seconds:g} s for {self.what}; giving up."
    user_msg = "The compute host gave up waiting after {self.seconds:g} s."


class HostStarved(HypervisorError):
    """:ivar what: was not begun."""

    what: str
    reason: str
    msg = (
        "There is no thread for {self.what}: {self.reason}; look at the limits of processes "
        "(TasksMax, pids.max) and at the memory"
    )


class AgentError(HypervisorError):
    domain: str
    operation: str
    reason: str
    msg = "The guest agent of domain {self.domain} failed to {self.operation}: {self.reason}"
    user_msg = "The agent in the guest failed to {self.operation}."


class AgentUnresponsive(AgentError):
    """The agent did not answer in time; it may still do what it was asked for."""


class QuiesceUnsupported(HypervisorError):
    domain: str
    reason: str
    msg = "The guest of domain {self.domain} cannot be quiesced: {self.reason}"
    user_msg = "The guest cannot be quiesced: {self.reason}"


class QemuImgFailed(HypervisorError):
    """:ivar exit_code: of the command; ``None`` when it was stopped at its time limit."""

    command: str
    exit_code: int | None
    stderr: str
    msg = "qemu-img {self.command} failed (exit code {self.exit_code}): {self.stderr}"
    user_msg = "The disk could not be converted; the log of the compute host says why."


class QemuNbdFailed(HypervisorError):
    """:ivar path: of the disk."""

    path: str
    reason: str
    msg = "qemu-nbd cannot export disk {self.path}: {self.reason}"
    user_msg = "The disk could not be read; the log of the compute host says why."


class ToolsUserUnusable(HypervisorError):
    user: str
    reason: str
    msg = "qemu-img and qemu-nbd cannot run as [libvirt] tools_user = {self.user}: {self.reason}"


class UnsafeDisk(HypervisorError):
    """A disk whose headers ask for something that a snapshot must never follow."""

    path: str
    reason: str
    msg = "Disk {self.path} is refused: {self.reason}"
    user_msg = "The disk is refused: it is damaged, or refers to something outside of the instance."


class DiskChanged(HypervisorError):
    """A disk that nobody was to write to was written to while it was read."""

    path: str
    msg = (
        "Disk {self.path} was written to while it was read: its guest was started, or something "
        "else on the host uses it"
    )
    user_msg = "The disk was written to while it was read; was the instance started meanwhile?"


class DiskUnwatched(HypervisorError):
    """Nobody can tell whether a disk is written to while it is read."""

    path: str
    reason: str
    msg = "Whether disk {self.path} is written to while it is read cannot be seen: {self.reason}"
    user_msg = "The disk could not be read; the log of the compute host says why."


class LogicalVolumeUnavailable(HypervisorError):
    """:ivar path: of its device."""

    path: str
    reason: str
    msg = "Disk {self.path} is not there: {self.reason}"
    user_msg = "The disk is not there; the log of the compute host says why."


class SecretUnavailable(HypervisorError):
    """:ivar secret: its uuid, or its kind and usage; never its value."""

    secret: str
    reason: str
    msg = "The secret {self.secret} is not known: {self.reason}"
    user_msg = "The key of the disk is not available on the compute host."


class DeviceError(HypervisorError):
    """:ivar device: its address on the host, or the MAC address of a port."""

    domain: str
    device: str
    operation: str
    reason: str
    msg = "Cannot {self.operation} device {self.device} of domain {self.domain}: {self.reason}"
    user_msg = "Device {self.device} could not be taken from the server, which still has it."


class DeviceKept(DeviceError):
    """:ivar seconds: how long the guest was given."""

    seconds: float
    msg = (
        "Cannot detach device {self.device} of domain {self.domain}: "
        "the guest has not let go of it within {self.seconds:g} s; it may still do so, at the "
        "latest when it reboots"
    )
    user_msg = "The system in the server has not let go of device {self.device}."


class DeviceLost(DeviceError):
    msg = (
        "Device {self.device} could not be given back to domain {self.domain}: {self.reason}; "
        "the guest runs without it."
    )
    user_msg = "Device {self.device} could not be given back to the server, which runs without it."


class BlockJobFailed(HypervisorError):
    """:ivar disk: the disk's target, such as ``vda``."""

    domain: str
    disk: str
    reason: str
    msg = "The block copy of disk {self.disk} of domain {self.domain} failed: {self.reason}"
    user_msg = "The copy of disk {self.disk} failed."


class BackupJobFailed(HypervisorError):
    domain: str
    reason: str
    msg = "The backup job of domain {self.domain} failed: {self.reason}"


class SocketDirectoryUnusable(HypervisorError):
    path: str
    reason: str
    msg = (
        "No disk can be exported in {self.path}: {self.reason}; set [libvirt] "
        "snapshot_socket_directory to a short path that this service may write to"
    )
    user_msg = "The compute host has no place to read the disk from."


class ScratchFull(HypervisorError):
    """:ivar path: the directory of the scratch file."""

    path: str
    free_mib: int
    reserve_mib: int
    msg = (
        "There are {self.free_mib} MiB free in {self.path}, and {self.reserve_mib} MiB must stay "
        "free ([libvirt] snapshot_scratch_reserve)"
    )
    user_msg = "The compute host has not enough room for what the guest writes meanwhile."


class CephFailed(HypervisorError):
    """:ivar exit_code: a number of :mod:`errno`; ``None`` when it was not done in time."""

    command: str
    exit_code: int | None
    reason: str
    msg = "{self.command} failed (exit code {self.exit_code}): {self.reason}"
    user_msg = "The storage cluster refused it or does not answer; the compute host's log says why."


class DirectUnavailable(HypervisorError):
    """A snapshot cannot be made within the storage cluster; another method may do."""

    reason: str
    msg = "The snapshot cannot be made within the storage cluster: {self.reason}"
    user_msg = "The snapshot cannot be made within the storage cluster."


class StillSaving(HypervisorError):
    domain: str
    msg = "The memory of domain {self.domain} is still being saved: virsh domjobinfo {self.domain}"


class HostDiskFull(HypervisorError):
    """:ivar path: the directory that something was to be written to."""

    path: str
    free_mib: int
    needed_mib: int
    msg = "There are {self.free_mib} MiB free in {self.path}, and {self.needed_mib} MiB are needed"
    user_msg = "The compute host has not enough room for the instance."


class FilesNotRemoved(HypervisorError):
    """:ivar path: the directory of the instance's files."""

    path: str
    reason: str
    msg = "The files in {self.path} could not be removed: {self.reason}"


class DomainExists(HypervisorError):
    """:ivar key: the name or the uuid that a new domain was to have."""

    domain: str
    key: str
    msg = "Domain {self.domain} has {self.key} already; it was not made for this request"


class HypervisorUnsupported(HypervisorError):
    operation: str
    reason: str
    msg = "This host cannot {self.operation}: {self.reason}"


class FakeFailure(HypervisorError):
    """The fake driver was told to fail, or closed meanwhile."""

    action: str
    instance_uuid: str
    reason: str
    msg = "The fake driver failed in {self.action} of instance {self.instance_uuid}: {self.reason}"
