# SPDX-License-Identifier: Apache-2.0
"""What a hypervisor driver does with the life of an instance, and what it is told for that."""

import abc
import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO, Protocol

from nova_snap import context as nova_context

Check = Callable[[], None]
"""Raises if the work is not wanted any more; called between two pieces of it."""

LifecycleCallback = Callable[[str, int], None]
"""Takes an instance's uuid and a number of :mod:`nova_snap.compute.power_state`."""


class InstanceLike(Protocol):
    """What a driver reads of an instance. It never writes to one."""

    @property
    def uuid(self) -> str: ...

    @property
    def name(self) -> str:
        """The domain's name."""

    @property
    def project_id(self) -> str: ...

    @property
    def user_id(self) -> str: ...

    @property
    def image_ref(self) -> str | None: ...

    @property
    def kernel_id(self) -> str | None: ...

    @property
    def ramdisk_id(self) -> str | None: ...

    @property
    def os_type(self) -> str | None: ...

    @property
    def image_properties(self) -> Mapping[str, str]:
        """Properties of the image that the instance was made from, such as
        ``hw_qemu_guest_agent``, without Nova's ``image_`` prefix."""


class ImageDownloader(Protocol):
    """The image service, as a driver uses it to make an instance."""

    def get(self, context: nova_context.RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""

    def download(
        self,
        context: nova_context.RequestContext,
        image_id: str,
        target: BinaryIO,
        check: Check,
    ) -> int:
        """Write the image's data into a file, which ends up holding nothing else.

        :param target: seekable; it is emptied first, and again when a broken download begins anew.
        :param check: called for each piece of data.
        :returns: how many bytes the image has.
        :raises nova_snap.exception.ImageNotFound: if there is no such image.
        :raises nova_snap.exception.ImageCorrupt: if what came is not what the record says.
        :raises nova_snap.exception.ImageServiceError: if it does not end well.
        """


@dataclasses.dataclass(frozen=True)
class SpawnRequest:
    """What an instance is to be made of.

    :ivar image_meta: the image service's record of the image, flat.
    :ivar root_gb: GiB that the root disk has; 0 is as large as the image.
    :ivar network: ``none``; ``user``: the guest reaches out through the host, and nobody reaches
        it; else the name of one of the hypervisor's own networks.
    :ivar extra_specs: of the flavor.
    """

    image_id: str
    image_meta: Mapping[str, Any]
    vcpus: int
    memory_mb: int
    root_gb: int
    network: str
    display_name: str
    flavor_name: str
    project_name: str | None = None
    user_name: str | None = None
    extra_specs: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class HostResources:
    """What a host has, and how much of that its guests use.

    :ivar hostname: as the hypervisor names its host.
    :ivar hypervisor_type: such as ``QEMU``.
    :ivar hypervisor_version: as one number: 7.2.0 is 7002000.
    :ivar vcpus: CPUs of the host.
    :ivar vcpus_used: virtual CPUs of guests that run.
    :ivar memory_mb_used: MiB that are not free, whoever uses them.
    :ivar local_gb: GiB of the file system that holds the instances' disks.
    :ivar disk_available_gb: GiB that would be left there if all the disks grew to their full size;
        it may be negative.
    :ivar running_vms: guests with a process on the host, the paused ones too.
    :ivar cpu_info: of the host's CPU: ``arch``, ``model``, ``vendor``, ``topology``, ``features``.
    :ivar uptime: since when the host is up and its load, in words as the ``uptime`` command has it.
    """

    hostname: str
    hypervisor_type: str
    hypervisor_version: int
    vcpus: int
    vcpus_used: int
    memory_mb: int
    memory_mb_used: int
    local_gb: int
    local_gb_used: int
    disk_available_gb: int
    running_vms: int
    cpu_info: Mapping[str, Any]
    uptime: str


class LifecycleDriver(abc.ABC):
    """The part of a driver that makes, ends and switches instances.

    Each method returns when it is done, and raises
    :class:`nova_snap.exception.DomainNotFound` if the instance is not on this host (:meth:`spawn`
    and :meth:`destroy` excepted), :class:`nova_snap.exception.HypervisorError` if the hypervisor
    could not do it. None is to be called twice at the same time for one instance.
    """

    @abc.abstractmethod
    def spawn(
        self,
        context: nova_context.RequestContext,
        instance: InstanceLike,
        request: SpawnRequest,
        check: Check,
    ) -> None:
        """Make an instance out of an image, and start it. After a failure nothing of it stays.

        :param context: whose token reads the image.
        :param check: called before each step and all through a download; what it raises is raised.
        :raises nova_snap.exception.ImageUnacceptable: if the image must not or cannot be used, or
            the instance is too small for it.
        :raises nova_snap.exception.SpawnFailed: for everything else; its ``__cause__`` is the
            first error.
        """

    @abc.abstractmethod
    def destroy(self, instance: InstanceLike) -> None:
        """End an instance at once and remove it with its files; fine if it is gone already.

        Files that lie elsewhere than where :meth:`spawn` puts them stay.
        """

    @abc.abstractmethod
    def power_on(self, instance: InstanceLike) -> None:
        """Start an instance that does not run; one that does is left alone."""

    @abc.abstractmethod
    def power_off(self, instance: InstanceLike, timeout: float) -> None:
        """Stop an instance; one that does not run is left alone.

        :param timeout: seconds that the guest has to shut itself down, before it is ended all the
            same; 0 ends it at once.
        """

    @abc.abstractmethod
    def reboot(self, instance: InstanceLike, hard: bool, timeout: float) -> None:
        """Have an instance run anew; one that does not run is started.

        :param hard: end it at once, instead of having the guest shut itself down first.
        :param timeout: as of :meth:`power_off`; a guest that does not shut itself down in time is
            rebooted hard.
        """

    @abc.abstractmethod
    def pause(self, instance: InstanceLike) -> None:
        """Stop the CPUs of an instance; it keeps its memory."""

    @abc.abstractmethod
    def unpause(self, instance: InstanceLike) -> None:
        """Let a paused instance run on."""

    @abc.abstractmethod
    def suspend(self, instance: InstanceLike) -> None:
        """Save the memory of an instance to disk, and stop it. Its power state is SHUTDOWN then."""

    @abc.abstractmethod
    def resume(self, instance: InstanceLike) -> None:
        """Let a suspended instance run on from its saved memory."""

    @abc.abstractmethod
    def get_console_output(self, instance: InstanceLike) -> bytes:
        """The end of what the guest has printed on its serial console, at most 100 KiB.

        :raises nova_snap.exception.ConsoleNotAvailable: if nothing keeps what it prints.
        """

    @abc.abstractmethod
    def on_lifecycle_event(self, callback: LifecycleCallback) -> None:
        """Have ``callback`` called when the power state of an instance has changed.

        It comes for what this driver does itself too, and for domains that are no instances. It
        runs in a thread of the driver's own, one at a time, in the order of the changes. Events can
        be lost while the hypervisor cannot be reached: they do not replace asking.
        """

    @abc.abstractmethod
    def host_resources(self) -> HostResources:
        """What the host has at this moment.

        :raises nova_snap.exception.HypervisorUnavailable: if the hypervisor does not answer.
        """
