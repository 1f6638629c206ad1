# SPDX-License-Identifier: Apache-2.0
"""What a hypervisor driver offers, and the little that it needs to know of the other rooms.

A driver is handed the instance, the image service and a callback; the protocols below are all
that it may use of them.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from nova_snap import context as nova_context
from nova_snap.virt.lifecycle import HostResources as HostResources
from nova_snap.virt.lifecycle import ImageDownloader as ImageDownloader
from nova_snap.virt.lifecycle import InstanceLike as InstanceLike
from nova_snap.virt.lifecycle import LifecycleDriver
from nova_snap.virt.lifecycle import SpawnRequest as SpawnRequest


class ImageData(Protocol):
    """The content of an image, which may be read more than once."""

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes; none only at the end."""

    def seek(self, offset: int, /) -> int:
        """Go to ``offset``, which is always 0."""

    def tell(self) -> int:
        """How many bytes were read since then."""


class ImageUploader(Protocol):
    """The image service, as a snapshot uses it."""

    def get(self, context: nova_context.RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""

    def update(
        self,
        context: nova_context.RequestContext,
        image_id: str,
        metadata: Mapping[str, Any],
        data: ImageData | None = None,
        size: int | None = None,
        on_cancel: Callable[[Callable[[], None]], None] | None = None,
    ) -> Mapping[str, Any]:
        """Set properties and, with ``data``, send the content: ``size`` bytes from the start, or
        all there are where the size is not known beforehand.

        ``data`` must be seekable: a broken upload starts again from byte 0.

        :param on_cancel: such as :meth:`SnapshotMonitor.on_cancel`: what it is handed ends the
            sending at once.
        :raises nova_snap.exception.ImageNotFound: if the image was deleted meanwhile.
        :raises nova_snap.exception.ImageServiceError: if it does not end well.
        """

    def add_location(
        self,
        context: nova_context.RequestContext,
        image_id: str,
        url: str,
        metadata: Mapping[str, Any],
    ) -> Mapping[str, Any]:
        """Set properties, and make data that are in a store of the image service the image's.

        :raises nova_snap.exception.ImageLocationRefused: if the image service does not want it.
        :raises nova_snap.exception.ImageNotFound: if the image was deleted meanwhile.
        """


class ImageService(ImageUploader, ImageDownloader, Protocol):
    """The image service, as a driver uses it for snapshots and for new instances."""


def data_properties(instance: InstanceLike) -> dict[str, str]:
    """What the record of an image says that is filled from one of an instance's disks."""
    return {
        "image_location": "snapshot",
        "image_state": "available",
        "owner_id": instance.project_id,
    }


class UpdateTaskState(Protocol):
    """The manager's callback: the driver says which phase of the snapshot begins."""

    def __call__(self, task_state: str, expected_state: str = ...) -> None:
        """:raises nova_snap.exception.UnexpectedTaskState: if the instance was taken away.
        :raises nova_snap.exception.InstanceNotFound: if it is gone."""


class SnapshotMonitor(Protocol):
    """Whom the driver tells how far it is, and who tells it when to stop."""

    def progress(self, done: int, total: int) -> None:
        """:param done: bytes of the image that were sent. :param total: its length in bytes."""

    def check(self) -> None:
        """To be called between two pieces of work.

        :raises nova_snap.exception.NovaSnapError: why the snapshot is not wanted any more: its
            image or its instance was deleted, its state was reset, it takes too long, for example.
        """

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Have ``callback`` called, by another thread, when :meth:`check` would raise."""


class FurtherImages(Protocol):
    """Makes the records of the images that a snapshot becomes besides that of the root disk."""

    def create(self, root: str, others: Sequence[str]) -> Sequence[str]:
        """Tie images of one instant together. Whoever asks for the snapshot deletes them when it
        fails.

        :param root: which disk the image is of that is there already, such as ``vda``.
        :param others: the other disks.
        :returns: an image in status ``queued`` for each of them.
        :raises nova_snap.exception.ImageServiceError: or ImageForbidden, InvalidImageProperty,
            ImageNotFound.
        """


class NoMonitor:
    """A monitor for callers that neither watch nor stop a snapshot."""

    def progress(self, done: int, total: int) -> None:
        """Nobody wants to know."""

    def check(self) -> None:
        """Nobody stops it."""

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """It is never called."""


@dataclasses.dataclass(frozen=True)
class InstanceInfo:
    """:ivar state: a number of :mod:`nova_snap.compute.power_state`."""

    state: int


@dataclasses.dataclass(frozen=True)
class SnapshotReport:
    """What a snapshot did.

    :ivar method: the method's name, such as ``mirror``.
    :ivar reason: why this method was chosen, in words.
    :ivar image_format: disk_format of the image.
    :ivar uploaded_bytes: length of the image's data.
    :ivar quiesced: the guest's file systems were frozen at the point in time.
    :ivar temp_bytes: of temporary files on the host.
    :ivar warnings: what is not as it was before the snapshot, in words for the user.
    :ivar images: by disk, where there is more than one. The other figures are of all of them.
    :ivar left_out: why other disks are in no image, by disk.
    """

    method: str
    reason: str
    image_format: str
    uploaded_bytes: int
    quiesced: bool
    temp_bytes: int = 0
    warnings: Sequence[str] = ()
    images: Mapping[str, str] = dataclasses.field(default_factory=dict)
    left_out: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class AdoptedDisk:
    """A disk of a domain.

    :ivar device_name: such as ``vda``.
    :ivar source_type: ``file``, ``block``, ``network`` or ``volume``.
    :ivar source: path of the file or device; ``None`` for a network disk.
    :ivar format: as the domain's XML names it, such as ``qcow2``.
    :ivar serial: Nova puts the Cinder volume's uuid here.
    :ivar device_type: ``disk`` or ``cdrom`` or ``floppy`` or ``lun``.
    :ivar size_gb: virtual size, rounded up to whole GiB; ``None`` if unknown.
    """

    device_name: str
    bus: str | None
    source_type: str
    source: str | None
    format: str | None
    serial: str | None = None
    device_type: str = "disk"
    size_gb: int | None = None


@dataclasses.dataclass(frozen=True)
class AdoptedDomain:
    """What a domain says of itself, for ``nova-snap-manage instance adopt``.

    The fields that are ``None`` are not in the domain's XML: they come from Nova's own metadata
    element, which only domains made by Nova have.

    :ivar uuid: the domain's uuid, which is the instance's.
    :ivar name: the domain's name.
    :ivar state: a number of :mod:`nova_snap.compute.power_state`.
    :ivar has_managed_save: its memory is saved on disk: suspended, in Nova's terms.
    """

    uuid: str
    name: str
    state: int
    vcpus: int
    memory_mb: int
    has_managed_save: bool = False
    disks: Sequence[AdoptedDisk] = ()
    os_type: str | None = None
    architecture: str | None = None
    display_name: str | None = None
    project_id: str | None = None
    project_name: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    image_ref: str | None = None
    flavor_name: str | None = None
    root_gb: int | None = None
    ephemeral_gb: int | None = None
    swap_mb: int | None = None
    created_at: str | None = None
    image_properties: Mapping[str, str] = dataclasses.field(default_factory=dict)


class ComputeDriver(LifecycleDriver):
    """A hypervisor.

    What makes, ends and switches its instances is in
    :class:`nova_snap.virt.lifecycle.LifecycleDriver`.
    """

    @abc.abstractmethod
    def init_host(self) -> None:
        """Connect and check that the hypervisor can do what the configuration asks for.

        :raises nova_snap.exception.HypervisorUnavailable: if it does not answer.
        """

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of the hypervisor; guests keep running. May be called twice."""

    @abc.abstractmethod
    def get_info(self, instance: InstanceLike) -> InstanceInfo:
        """What the hypervisor says of the instance now.

        :raises nova_snap.exception.DomainNotFound: if it is not on this host.
        """

    @abc.abstractmethod
    def snapshot(
        self,
        context: nova_context.RequestContext,
        instance: InstanceLike,
        image_id: str,
        update_task_state: UpdateTaskState,
        monitor: SnapshotMonitor | None = None,
        further_images: FurtherImages | None = None,
    ) -> SnapshotReport:
        """Take a snapshot of the root disk, or of all local disks at one instant, where that is
        configured, and send it to the image service. The root disk's image is the last that
        becomes active.

        The guest ends as it began: running or paused, thawed, persistent, without a job. Nothing
        stays behind on the host.

        :param image_id: an image record in status ``queued``.
        :param update_task_state: called with IMAGE_PENDING_UPLOAD, then with IMAGE_UPLOADING and
            ``expected_state=IMAGE_PENDING_UPLOAD``.
        :param monitor: is told of the progress, and stops the snapshot.
        :param further_images: makes the records for the other disks; without it, only the root
            disk is taken.
        :raises nova_snap.exception.SnapshotFailed: with the method, the phase and the reason;
            its ``__cause__`` is the first error.
        :raises nova_snap.exception.ImageNotFound: if the image was deleted meanwhile.
        :raises nova_snap.exception.InstanceNotFound: if the instance was deleted meanwhile.
        """

    @abc.abstractmethod
    def quiesce(self, instance: InstanceLike, key: str) -> None:
        """Freeze the guest's file systems, for snapshots that somebody else takes. They are thawed
        by :meth:`unquiesce`, and without it after a time, at :meth:`close` and at the next start.

        :param key: names the snapshot.
        :raises nova_snap.exception.QuiesceUnsupported: if the guest cannot be frozen.
        :raises nova_snap.exception.AgentError: if that failed.
        :raises nova_snap.exception.DomainNotFound: if it is not on this host.
        """

    @abc.abstractmethod
    def unquiesce(self, instance_uuid: str, key: str) -> bool:
        """Thaw what :meth:`quiesce` froze for the same snapshot.

        :returns: whether it was frozen until now.
        :raises nova_snap.exception.AgentError: if it is not thawed yet; it is being tried.
        """

    @abc.abstractmethod
    def clean_up_after_restart(self, instance: InstanceLike) -> Sequence[str]:
        """Put right what a snapshot left that the process did not live to end.

        Block jobs ended, guest thawed and running or paused, domain persistent, temp files gone.

        :returns: what the guest has to do without, in words for the user.
        """

    def unfinished(self) -> Sequence[str]:
        """Uuids of instances for which :meth:`clean_up_after_restart` may have something to do:
        also of those that a snapshot is being taken of. Asks the hypervisor nothing."""
        return ()

    @abc.abstractmethod
    def list_domains(self) -> Sequence[str]:
        """Names of all the domains on this host, in alphabetical order."""

    @abc.abstractmethod
    def describe_domain(self, name: str) -> AdoptedDomain:
        """:raises nova_snap.exception.DomainNotFound:
        :raises nova_snap.exception.InvalidDomain: if its XML cannot be used."""
