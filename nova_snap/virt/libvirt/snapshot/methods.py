# SPDX-License-Identifier: Apache-2.0
"""Which method takes a snapshot: a table of rules, of which the first that applies decides."""

import dataclasses
import enum
from collections.abc import Callable, Sequence
from typing import Final

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.stream import pipeline
from nova_snap.virt.libvirt import domain_xml, imagebackend
from nova_snap.virt.libvirt.capabilities import (
    BACKUP_VERSION,
    MIN_LIBVIRT_LIVESNAPSHOT_VERSION,
    MIN_QEMU_LIVESNAPSHOT_VERSION,
    Capabilities,
    version_text,
)

_AUTO: Final = "auto"


class Method(enum.StrEnum):
    """The methods that there are."""

    DIRECT = "direct"
    """The storage cluster makes the image of the disk, where both are in the same."""

    STREAM = "stream"
    """A backup job offers the disk of one moment, which is read while the guest goes on."""

    OFFLINE = "offline"
    """No hypervisor process has the disk open: it is read where it lies."""

    MIRROR = "mirror"
    """A block copy of the disk of a guest that runs or is paused; the image is of its end."""

    MANAGED_SAVE = "managed_save"
    """The guest's memory is saved, its disk is read, and it is restored as it was."""


@dataclasses.dataclass(frozen=True)
class GuestFacts:
    """:ivar power_state: a number of :mod:`nova_snap.compute.power_state`.

    :ivar active: a hypervisor process runs for it.
    :ivar has_managed_save: it is suspended to disk.
    :ivar virt_type: of its domain, such as ``kvm``.
    :ivar quiesce_required: its image says ``os_require_quiesce``.
    :ivar may_decrypt: the operator lets images hold decrypted what is encrypted on the host.
    :ivar host_devices: it uses devices of the host, which are to be taken from it before it is
        saved.
    :ivar job_lost: libvirt waits for the end of a backup of which it knows nothing any more.
    :ivar copy_lost: libvirt shows a copy of a disk that no job carries out.
    :ivar mounted_writable: it is a container, and its disk is mounted and may be written to.
    :ivar mounted_read_only: the same, but nobody can write to it.
    """

    power_state: int
    active: bool
    virt_type: str
    has_managed_save: bool = False
    quiesce_required: bool = False
    may_decrypt: bool = False
    host_devices: bool = False
    job_lost: bool = False
    copy_lost: bool = False
    mounted_writable: bool = False
    mounted_read_only: bool = False


@dataclasses.dataclass(frozen=True)
class Choice:
    """:ivar reason: why this one, in words, for the log and for the record of the action."""

    method: Method
    reason: str


@dataclasses.dataclass(frozen=True)
class _Case:
    capabilities: Capabilities
    config: str
    guest: GuestFacts
    disk: domain_xml.Disk
    image_format: str
    no_direct: str | None

    @property
    def can_be_direct(self) -> bool:
        return self.disk.is_rbd and self.no_direct is None and not self.is_container

    @property
    def can_stream(self) -> bool:
        can_read = self.capabilities.can_backup and self.image_format in pipeline.FORMATS
        return can_read and not self.guest.job_lost

    @property
    def is_encrypted(self) -> bool:
        return self.disk.encrypted or self.disk.host_decrypted

    @property
    def can_mirror(self) -> bool:
        # As Nova has it: what is no file is never copied while its guest runs.
        return (
            self.capabilities.can_block_copy
            and imagebackend.disk_type(self.disk) not in ("lvm", "rbd")
            and not self.is_encrypted
        )

    @property
    def is_container(self) -> bool:
        return self.guest.virt_type == "lxc"

    @property
    def is_savable(self) -> bool:
        """It can be saved and restored as it was."""
        states = (power_state.RUNNING, power_state.PAUSED)
        is_steady = self.guest.power_state in states and not self.holds_devices
        return is_steady and not self.guest.job_lost

    @property
    def holds_devices(self) -> bool:
        """A device leaves a guest when the guest's system says so: when it runs again, in the
        case of one that is paused."""
        return self.guest.host_devices and self.guest.power_state == power_state.PAUSED


@dataclasses.dataclass(frozen=True)
class _Rule:
    """:ivar method: ``None`` where no method can do it, for the reason given."""

    applies: Callable[[_Case], bool]
    method: Method | None
    reason: str


_HOLDS_DEVICES: Final = (
    "the guest uses devices of the host, and cannot let go of them while it is paused; resume it "
    "first, or use a method that does not save it"
)

_JOB_LOST: Final = (
    "libvirt was ended while it began a backup of the guest, and now waits for the end of that for "
    "ever"
)

_RULES: Final[Sequence[_Rule]] = (
    _Rule(
        lambda case: case.config in (_AUTO, Method.DIRECT) and case.can_be_direct,
        Method.DIRECT,
        "the disk and the image service's store are in one storage cluster, which makes the image",
    ),
    _Rule(
        lambda case: case.config == Method.DIRECT,
        None,
        "[libvirt] snapshot_method asks for direct, and {case.no_direct}",
    ),
    _Rule(
        lambda case: not imagebackend.is_supported(case.disk),
        None,
        "no image backend reads a disk of format {case.disk.format} in a {case.disk.source_type}",
    ),
    _Rule(
        lambda case: case.is_encrypted and not case.guest.may_decrypt,
        None,
        "the disk is encrypted, and its image would not be; the operator can allow that by "
        "[libvirt] snapshot_encrypted_disks = decrypt",
    ),
    # A container's file system is mounted in the host's own kernel: see container.py.
    _Rule(
        lambda case: case.is_container and case.guest.mounted_writable,
        None,
        "the container's file system is mounted, and may be written to; stop the container first, "
        "or run it with its root <readonly/>",
    ),
    _Rule(
        lambda case: case.is_container and case.guest.mounted_read_only,
        Method.OFFLINE,
        "the container's file system is mounted read-only: its disk is read where it lies",
    ),
    _Rule(
        lambda case: not case.guest.active and case.guest.has_managed_save,
        Method.OFFLINE,
        "the guest is suspended to disk: its disk is read where it lies, its memory stays saved",
    ),
    _Rule(
        lambda case: not case.guest.active,
        Method.OFFLINE,
        "the guest is shut off: its disk is read where it lies",
    ),
    _Rule(
        lambda case: case.is_container,
        None,
        "a container that runs can be neither copied nor saved, and its file system is not seen to "
        "be mounted read-only; stop it first",
    ),
    _Rule(
        lambda case: case.guest.power_state == power_state.SHUTDOWN,
        None,
        "the guest is about to shut down; try again when it is shut off",
    ),
    _Rule(
        lambda case: case.guest.copy_lost,
        None,
        "libvirt shows a copy of its disk that no job carries out any more, and begins nothing "
        "else with that disk; stop the guest and start it again (a hard reboot)",
    ),
    # It neither begins another nor saves a guest meanwhile, but it copies disks.
    _Rule(
        lambda case: (
            case.guest.job_lost and case.config in (_AUTO, Method.MIRROR) and case.can_mirror
        ),
        Method.MIRROR,
        _JOB_LOST + ": the disk is copied",
    ),
    _Rule(
        lambda case: case.guest.job_lost,
        None,
        _JOB_LOST + "; the operator can put that right (see the documentation: troubleshooting)",
    ),
    _Rule(
        lambda case: case.config == Method.MANAGED_SAVE and case.guest.quiesce_required,
        None,
        "its image requires a quiesce, which managed_save cannot do; "
        "set [libvirt] snapshot_method = auto",
    ),
    _Rule(
        lambda case: case.config == Method.MANAGED_SAVE and case.holds_devices,
        None,
        _HOLDS_DEVICES,
    ),
    _Rule(
        lambda case: case.config == Method.MANAGED_SAVE and case.is_savable,
        Method.MANAGED_SAVE,
        "[libvirt] snapshot_method asks for it",
    ),
    _Rule(
        lambda case: case.config == Method.MANAGED_SAVE,
        None,
        "a guest that is {state} cannot be saved and restored as it was",
    ),
    # As Nova has it: such a volume is static while its snapshot is taken.
    _Rule(
        lambda case: case.disk.host_decrypted and case.guest.quiesce_required,
        None,
        "its image requires a quiesce, which cannot be done for an encrypted logical volume",
    ),
    _Rule(
        lambda case: case.disk.host_decrypted and case.is_savable,
        Method.MANAGED_SAVE,
        "the disk is an encrypted logical volume, which is read only while its guest stands still",
    ),
    _Rule(
        lambda case: case.disk.host_decrypted,
        None,
        "a guest that is {state} cannot be saved and restored as it was, and an encrypted logical "
        "volume is read only while its guest stands still",
    ),
    _Rule(
        lambda case: case.config == Method.STREAM and case.can_stream,
        Method.STREAM,
        "[libvirt] snapshot_method asks for it",
    ),
    _Rule(
        lambda case: case.config == Method.STREAM,
        None,
        "[libvirt] snapshot_method asks for stream, which needs libvirt {backup_version} and an "
        "image format of qcow2 or raw; this is libvirt {libvirt_version}, and the image is to be "
        "{case.image_format}",
    ),
    _Rule(
        lambda case: case.config == _AUTO and case.can_stream,
        Method.STREAM,
        "the guest is {state} and its disk can be read as of this moment",
    ),
    _Rule(
        lambda case: case.config == Method.MIRROR and case.can_mirror,
        Method.MIRROR,
        "[libvirt] snapshot_method asks for it",
    ),
    _Rule(
        lambda case: case.can_mirror,
        Method.MIRROR,
        "the guest is {state} and its disk can be copied meanwhile",
    ),
    _Rule(
        lambda case: case.config == Method.MIRROR and not case.capabilities.can_block_copy,
        None,
        "[libvirt] snapshot_method asks for mirror, but {versions}",
    ),
    _Rule(
        lambda case: case.guest.quiesce_required,
        None,
        "its image requires a quiesce, which needs mirror, but {obstacle}",
    ),
    # Who keeps disks in a cluster has guests that are not to stand still for as long as it takes to
    # read one.
    _Rule(
        lambda case: case.disk.is_rbd and case.config == _AUTO,
        None,
        "the guest would have to be suspended: {obstacle}, and stream needs libvirt "
        "{backup_version}; set [libvirt] snapshot_method = managed_save if it may be",
    ),
    _Rule(lambda case: case.holds_devices, None, _HOLDS_DEVICES),
    _Rule(
        lambda case: case.is_savable,
        Method.MANAGED_SAVE,
        "{obstacle}",
    ),
)


def choose_method(
    capabilities: Capabilities,
    config: str,
    guest: GuestFacts,
    disk: domain_xml.Disk,
    image_format: str = "qcow2",
    no_direct: str | None = "it takes one disk, and not several at one instant",
) -> Choice:
    """Choose how to take a snapshot. Asks nobody and changes nothing.

    :param config: ``[libvirt] snapshot_method``.
    :param disk: the root disk.
    :param image_format: of the image to make.
    :param no_direct: why the storage cluster cannot make the image; ``None`` if it can.
    :raises nova_snap.exception.SnapshotMethodUnavailable: if no method can do it.
    """
    case = _Case(capabilities, config, guest, disk, image_format, no_direct)
    for rule in _RULES:
        if rule.applies(case):
            reason = rule.reason.format(
                case=case,
                state=_state(guest),
                versions=_versions(case),
                obstacle=_obstacle(case),
                backup_version=version_text(BACKUP_VERSION),
                libvirt_version=version_text(capabilities.libvirt_version),
            )
            if rule.method is None:
                break
            return Choice(rule.method, reason + _why_not_direct(case, rule.method))
    else:
        reason = f"none is known for a guest that is {_state(guest)}"
    raise exception.SnapshotMethodUnavailable(method=config, reason=reason)


def _why_not_direct(case: _Case, method: Method) -> str:
    """For an operator who expects the storage cluster to make the image by itself."""
    if method is Method.DIRECT or case.config != _AUTO or not case.disk.is_rbd:
        return ""
    return f"; not by method direct: {case.no_direct}"


def _state(guest: GuestFacts) -> str:
    return power_state.NAMES.get(guest.power_state, f"in state {guest.power_state}")


def _obstacle(case: _Case) -> str:
    """Why there is no block copy."""
    if not case.capabilities.can_block_copy:
        return _versions(case)
    if case.is_encrypted:
        return "a block copy of an encrypted disk would not be encrypted"
    # What a user may read: it names no path.
    kind = "in Ceph" if case.disk.is_rbd else "a block device"
    return f"a block copy is made of files only, and the disk is {kind}"


def _versions(case: _Case) -> str:
    found = case.capabilities
    needed = (
        f"QEMU {version_text(MIN_QEMU_LIVESNAPSHOT_VERSION)} "
        f"and libvirt {version_text(MIN_LIBVIRT_LIVESNAPSHOT_VERSION)}"
    )
    present = (
        f"{found.hypervisor} {version_text(found.hypervisor_version)} "
        f"with libvirt {version_text(found.libvirt_version)}"
    )
    return f"a block copy needs {needed}, and this is {present}"
