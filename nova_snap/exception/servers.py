# SPDX-License-Identifier: Apache-2.0
"""Flavors, quotas, services and metadata: what surrounds the instances."""

from nova_snap.exception.base import Conflict, Forbidden, Invalid, NotFound, NovaSnapError


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


class ServiceHasInstances(Conflict):
    host: str
    msg = (
        "Unable to delete the compute service of host {self.host}, which has instances. Delete or "
        "forget them first."
    )


class FlavorExists(Conflict):
    name: str
    msg = "Flavor with name {self.name} already exists."


class FlavorIdExists(Conflict):
    flavor_id: str
    msg = "Flavor with ID {self.flavor_id} already exists."


class InvalidFilter(Invalid):
    name: str
    value: str
    reason: str
    msg = "Invalid value '{self.value}' for filter {self.name}: {self.reason}"


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


class MessagingUnavailable(NovaSnapError):
    host: str
    reason: str
    msg = "The request could not be sent to compute host {self.host}: {self.reason}"
    user_msg = "The compute host of the instance cannot be reached; try again later."


class HostTaken(NovaSnapError):
    """:ivar pid: of the process that does the host's work, as it has written it down."""

    host: str
    pid: str
    path: str
    msg = (
        "The work of compute host {self.host} is done by process {self.pid}, which holds "
        "{self.path}. Stop that one first, or set another [DEFAULT] host."
    )


class NoValidHost(NovaSnapError):
    reason: str
    msg = "No valid host was found. {self.reason}"
