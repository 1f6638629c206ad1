# SPDX-License-Identifier: Apache-2.0
"""Every error that one room raises for another.

A class carries its data as attributes and formats its own message; none knows HTTP.

::

    NovaSnapError
    +-- NotFound
    |   +-- InstanceNotFound, ImageNotFound, DomainNotFound, DiskNotFound, MarkerNotFound,
    |   |   InstanceActionNotFound
    |   +-- ServiceNotFound, HostBinaryNotFound, ComputeHostNotFound, NoMatchingHypervisor,
    |   |   ImagePropertyNotFound
    |   +-- FlavorNotFound, FlavorExtraSpecNotFound, MetadataItemNotFound, ConsoleNotAvailable
    +-- Conflict
    |   +-- InstanceInvalidState, UnexpectedTaskState, InstanceNotReady, AlreadyAdopted
    |   +-- FlavorExists, FlavorIdExists, InstanceBusy, ServiceHasInstances
    +-- Invalid
    |   +-- InvalidTransition, InvalidImageProperty, InvalidFilter, InvalidInstancePrimitive,
    |   |   InvalidDomain, ImageUnacceptable
    |   +-- VolumeBackedUnsupported, VolumeBackedBackup, InvalidRotation
    |   +-- RequestedImageNotFound, ImageNotActive, FlavorMemoryTooSmall,
    |   |   FlavorDiskSmallerThanImage, FlavorDiskSmallerThanMinDisk
    +-- Forbidden
    |   +-- MetadataLimitExceeded, ServerMetadataLimitExceeded, ImageForbidden, QuotaExceeded
    +-- ImageServiceError
    |   +-- ImageServiceUnavailable, ImageRejected, ImageTooLarge, ImageConflict, ImageCorrupt
    +-- IdentityError
    |   +-- IdentityServiceUnavailable, IdentityMisconfigured, NoCredentials, EndpointNotFound
    +-- MessagingUnavailable, RequestLost, NoValidHost, LifecycleInterrupted, LifecycleTimeout
    +-- HypervisorError
    |   +-- HypervisorUnavailable, LibvirtOperationFailed, WaitTimeout,
    |   |   AgentError, AgentUnresponsive, QuiesceUnsupported, QemuImgFailed, QemuNbdFailed,
    |   |   UnsafeDisk, DeviceError, BlockJobFailed, BackupJobFailed, ScratchFull,
    |   |   SocketDirectoryUnusable, HostDiskFull, FilesNotRemoved, DomainExists,
    |   |   HypervisorUnsupported, FakeFailure
    +-- SpawnFailed
    +-- SnapshotFailed, SnapshotInterrupted, SnapshotMethodUnavailable
"""

from collections.abc import Iterable


class NovaSnapError(Exception):
    """The root: whoever catches it catches everything that was foreseen.

    :cvar msg: the message, for the log; it may say everything.
    :cvar user_msg: the message for a client, where ``msg`` names hosts, paths or endpoints.
    """

    msg = "An error occurred"
    user_msg: str | None = None

    def __init__(self, **data: object) -> None:
        """:param data: what the message of the class names; kept as attributes."""
        self.__dict__.update(data)
        super().__init__(self.msg.format(self=self))

    def for_user(self) -> str:
        """What a client may read of it."""
        return (self.user_msg or self.msg).format(self=self)


# -- things that are not there ---------------------------------------------------------------


class NotFound(NovaSnapError):
    """Something that was named does not exist."""


class InstanceNotFound(NotFound):
    instance_id: str
    msg = "Instance {self.instance_id} could not be found."


class ImageNotFound(NotFound):
    image_id: str
    msg = "Image {self.image_id} could not be found."


class ImagePropertyNotFound(NotFound):
    image_id: str
    key: str
    msg = "Image {self.image_id} has no metadata with key {self.key}."


class DomainNotFound(NotFound):
    domain: str
    msg = "Domain {self.domain} is not defined on this host."


class DiskNotFound(NotFound):
    domain: str
    msg = "Domain {self.domain} has no disk to take a snapshot of."


class InstanceActionNotFound(NotFound):
    """:ivar request_id: of the request that has asked for it."""

    request_id: str
    msg = "Action {self.request_id} not found"


class MarkerNotFound(NotFound):
    marker: str
    msg = "Marker {self.marker} could not be found."


class FlavorNotFound(NotFound):
    flavor_id: str
    msg = "Flavor {self.flavor_id} could not be found."


class FlavorExtraSpecNotFound(NotFound):
    flavor_id: str
    key: str
    msg = "Flavor {self.flavor_id} has no extra specs with key {self.key}."


class MetadataItemNotFound(NotFound):
    instance_uuid: str
    key: str
    msg = "Metadata item was not found"


class ConsoleNotAvailable(NotFound):
    instance_uuid: str
    reason: str
    msg = "The console of instance {self.instance_uuid} is not available: {self.reason}"
    user_msg = "Guest does not have a console available."


class ServiceNotFound(NotFound):
    """:ivar service_id: as it was given: the id, or the uuid."""

    service_id: object
    msg = "Service {self.service_id} could not be found."


class HostBinaryNotFound(NotFound):
    host: str
    binary: str
    msg = "Could not find binary {self.binary} on host {self.host}."


class ComputeHostNotFound(NotFound):
    """:ivar host: its name, or the id or uuid of its hypervisor."""

    host: object
    msg = "Compute host {self.host} could not be found."


class NoMatchingHypervisor(NotFound):
    """:ivar pattern: a part of a host's name."""

    pattern: str
    msg = "No hypervisor matching '{self.pattern}' could be found."


# -- the right request at the wrong time -----------------------------------------------------


class Conflict(NovaSnapError):
    """The state of a thing forbids what was asked."""


class InstanceInvalidState(Conflict):
    """:ivar attr: which state is wrong: ``vm_state``, ``task_state`` or ``launched_at``."""

    instance_uuid: str
    attr: str
    state: str | None
    method: str
    msg = (
        "Cannot '{self.method}' instance {self.instance_uuid} while it is in "
        "{self.attr} {self.state}"
    )


class InstanceNotReady(Conflict):
    instance_uuid: str
    msg = "Instance {self.instance_uuid} is not ready."


class InstanceBusy(Conflict):
    """:ivar seconds: how long was waited."""

    instance_uuid: str
    seconds: float
    msg = (
        "What is being done to instance {self.instance_uuid} did not end within {self.seconds:g} s"
    )


class UnexpectedTaskState(Conflict):
    """A compare-and-swap found another state than the one that was expected."""

    instance_uuid: str
    expected: Iterable[str | None]
    actual: str | None
    msg = (
        "Instance {self.instance_uuid} was expected in task_state {self.expected}, "
        "but it is in {self.actual}"
    )


class ServiceHasInstances(Conflict):
    host: str
    msg = (
        "Unable to delete the compute service of host {self.host}, which has instances. Delete or "
        "forget them first."
    )


class AlreadyAdopted(Conflict):
    instance_uuid: str
    host: str
    msg = "Instance {self.instance_uuid} is already adopted on host {self.host}."


class FlavorExists(Conflict):
    name: str
    msg = "Flavor with name {self.name} already exists."


class FlavorIdExists(Conflict):
    flavor_id: str
    msg = "Flavor with ID {self.flavor_id} already exists."


# -- input that makes no sense ---------------------------------------------------------------


class Invalid(NovaSnapError):
    """A value that cannot be used."""


class InvalidTransition(Invalid):
    old: str | None
    new: str | None
    msg = "No step leads from task_state {self.old} to {self.new}."


class InvalidImageProperty(Invalid):
    reason: str
    msg = "The image service refused the image's properties: {self.reason}"


class InvalidFilter(Invalid):
    name: str
    value: str
    reason: str
    msg = "Invalid value '{self.value}' for filter {self.name}: {self.reason}"


class InvalidInstancePrimitive(Invalid):
    reason: str
    msg = "The instance in the message is neither a uuid nor a serialised Instance: {self.reason}"


class InvalidDomain(Invalid):
    domain: str
    reason: str
    msg = "Domain {self.domain} cannot be used: {self.reason}"


class ImageUnacceptable(Invalid):
    """An image that no instance may be, or can be, made from."""

    image_id: str
    reason: str
    msg = "Image {self.image_id} is unacceptable: {self.reason}"


class VolumeBackedUnsupported(Invalid):
    instance_uuid: str
    msg = (
        "Instance {self.instance_uuid} boots from a volume; snapshots of volume-backed instances "
        "are not supported."
    )


class RequestedImageNotFound(Invalid):
    """The image that a server is to be made from is not there."""

    image_id: str
    msg = "Can not find requested image {self.image_id}"


class ImageNotActive(Invalid):
    image_id: str
    msg = "Image {self.image_id} is not active."


class FlavorMemoryTooSmall(Invalid):
    """:ivar memory_mb: of the flavor. :ivar min_ram: of the image, in MiB."""

    memory_mb: int
    min_ram: int
    msg = (
        "Flavor's memory is too small for requested image: the flavor has {self.memory_mb} MiB, "
        "the image asks for {self.min_ram} MiB."
    )


class FlavorDiskSmallerThanImage(Invalid):
    """Both in bytes."""

    flavor_size: int
    image_size: int
    msg = (
        "Flavor's disk is too small for requested image. Flavor disk is {self.flavor_size} bytes, "
        "image is {self.image_size} bytes."
    )


class FlavorDiskSmallerThanMinDisk(Invalid):
    """Both in bytes."""

    flavor_size: int
    image_min_disk: int
    msg = (
        "Flavor's disk is smaller than the minimum size specified in image metadata. Flavor disk "
        "is {self.flavor_size} bytes, minimum size is {self.image_min_disk} bytes."
    )


class VolumeBackedBackup(Invalid):
    instance_uuid: str
    msg = (
        "Instance {self.instance_uuid} boots from a volume; backups of volume-backed instances "
        "are not supported."
    )


class InvalidRotation(Invalid):
    reason: str
    msg = "The backup's type must be text and its rotation a number from 0 on, but {self.reason}"


# -- limits and permissions ------------------------------------------------------------------


class Forbidden(NovaSnapError):
    """The caller may not do this."""


class MetadataLimitExceeded(Forbidden):
    allowed: int
    given: int
    msg = (
        "Image metadata limit exceeded: {self.given} items were given, {self.allowed} are allowed."
    )


class ServerMetadataLimitExceeded(Forbidden):
    allowed: int
    msg = "Maximum number of metadata items exceeds {self.allowed}"


class QuotaExceeded(Forbidden):
    """:ivar overs: names of the resources; the other values are in the same order."""

    overs: str
    requested: str
    used: str
    allowed: str
    msg = (
        "Quota exceeded for {self.overs}: Requested {self.requested}, but already used "
        "{self.used} of {self.allowed} {self.overs}"
    )


class ImageForbidden(Forbidden):
    image_id: str | None
    reason: str
    msg = "The image service refused the request: {self.reason}"


# -- the image service -----------------------------------------------------------------------


class ImageServiceError(NovaSnapError):
    reason: str
    msg = "The image service answered with an error: {self.reason}"


class ImageServiceUnavailable(ImageServiceError):
    endpoint: str
    msg = "The image service at {self.endpoint} cannot be reached: {self.reason}"
    user_msg = "The image service cannot be reached; try again later."


class ImageRejected(ImageServiceError):
    """The image service took the data and found it unacceptable."""

    image_id: str
    msg = "The image service refused the data of image {self.image_id}: {self.reason}"


class ImageTooLarge(ImageServiceError):
    msg = "The image service refused the image as too large or over quota: {self.reason}"


class ImageConflict(ImageServiceError):
    image_id: str
    msg = "The image service refuses this in image {self.image_id}'s status: {self.reason}"


class ImageCorrupt(ImageServiceError):
    """What the image service sent is not what its record says."""

    image_id: str
    msg = "The data of image {self.image_id} are not what its record says: {self.reason}"


# -- the identity service, and being somebody to other services --------------------------------


class IdentityError(NovaSnapError):
    """nova_snap cannot say to another service who it is, or cannot find that service."""


class IdentityServiceUnavailable(IdentityError):
    reason: str
    msg = "The identity service cannot be reached: {self.reason}"
    user_msg = "The identity service cannot be reached; try again later."


class IdentityMisconfigured(IdentityError):
    group: str
    reason: str
    msg = "What [{self.group}] says cannot be used: {self.reason}"
    user_msg = "The service's own access to the cloud is not set up right."


class NoCredentials(IdentityError):
    msg = (
        "The request carries no token, and [service_user] names nobody as whom the service could "
        "ask instead."
    )
    user_msg = "The service's own access to the cloud is not set up right."


class EndpointNotFound(IdentityError):
    """:ivar interface: those that were looked for, the preferred one first."""

    group: str
    service_type: str
    service_name: str | None
    interface: Iterable[str]
    region_name: str | None
    msg = (
        "The catalog has no endpoint for what [{self.group}] wants: service_type "
        "{self.service_type}, service_name {self.service_name}, valid_interfaces "
        "{self.interface}, region_name {self.region_name}"
    )
    user_msg = "The catalog has no endpoint of a service that is needed: {self.service_type}."


# -- messages --------------------------------------------------------------------------------


class MessagingUnavailable(NovaSnapError):
    host: str
    reason: str
    msg = "The request could not be sent to compute host {self.host}: {self.reason}"
    user_msg = "The compute host of the instance cannot be reached; try again later."


# -- an instance's life ----------------------------------------------------------------------


class NoValidHost(NovaSnapError):
    reason: str
    msg = "No valid host was found. {self.reason}"


class LifecycleInterrupted(NovaSnapError):
    """:ivar action: what the process did when it died."""

    host: str
    action: str
    msg = "The compute service of host {self.host} was restarted during {self.action}."
    user_msg = "The compute service was restarted during {self.action}."


class RequestLost(NovaSnapError):
    """:ivar seconds: how long was waited for the message."""

    host: str
    seconds: float
    msg = "The request did not reach compute host {self.host} within {self.seconds:g} s."
    user_msg = "The request did not reach the compute host within {self.seconds:g} s; try again."


class LifecycleTimeout(NovaSnapError):
    """:ivar seconds: how long was waited."""

    action: str
    seconds: float
    msg = "The {self.action} did not end within {self.seconds:g} s."


# -- the hypervisor --------------------------------------------------------------------------


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


class UnsafeDisk(HypervisorError):
    """A disk whose headers ask for something that a snapshot must never follow."""

    path: str
    reason: str
    msg = "Disk {self.path} is refused: {self.reason}"
    user_msg = "The disk is refused: it is damaged, or refers to something outside of the instance."


class DeviceError(HypervisorError):
    domain: str
    device: str
    operation: str
    reason: str
    msg = "Cannot {self.operation} device {self.device} of domain {self.domain}: {self.reason}"


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
    msg = "The fake driver failed to {self.action} instance {self.instance_uuid}"


# -- a new instance --------------------------------------------------------------------------


class SpawnFailed(NovaSnapError):
    """:ivar phase: what was being done, in words."""

    instance_uuid: str
    phase: str
    reason: str
    msg = "Instance {self.instance_uuid} could not be made ({self.phase}): {self.reason}"

    def for_user(self) -> str:
        """The message with as much of the first error as a client may read."""
        cause = self.__cause__
        if isinstance(cause, NovaSnapError):
            return f"The instance could not be made ({self.phase}): {cause.for_user()}"
        return f"The instance could not be made ({self.phase}): {SnapshotFailed.unforeseen}"


# -- the snapshot as a whole -----------------------------------------------------------------


class SnapshotFailed(NovaSnapError):
    """:ivar phase: the task_state during which it failed."""

    instance_uuid: str
    image_id: str
    method: str
    phase: str
    reason: str
    msg = "Snapshot by method {self.method} failed during {self.phase}: {self.reason}"
    unforeseen = "an unexpected error; the log of the compute host has it."

    def for_user(self) -> str:
        """The message with as much of the first error as a client may read."""
        cause = self.__cause__
        reason = cause.for_user() if isinstance(cause, NovaSnapError) else self.unforeseen
        return f"Snapshot by method {self.method} failed during {self.phase}: {reason}"


class SnapshotInterrupted(NovaSnapError):
    """:ivar phase: the task_state that the process died in."""

    host: str
    phase: str | None
    msg = "The compute service of host {self.host} was restarted during {self.phase}."
    user_msg = "The compute service was restarted during {self.phase}."


class SnapshotMethodUnavailable(NovaSnapError):
    method: str
    reason: str
    msg = "Snapshot method {self.method} cannot be used: {self.reason}"
