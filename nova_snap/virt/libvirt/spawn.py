# SPDX-License-Identifier: Apache-2.0
"""An instance is made: its image, its disk, its domain; after a failure nothing of it stays."""

import contextlib
import datetime
import errno
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import units

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.virt import driver
from nova_snap.virt.libvirt import chain, domain_builder, image_inspection, nova_metadata
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.image_cache import CachedImage, ImageCache
from nova_snap.virt.libvirt.instance_files import InstanceFiles
from nova_snap.virt.libvirt.qemu_img import QemuImg

LOG = logging.getLogger(__name__)

# Attributes of an image's record begin like this too, but are no properties of its guests.
_PROPERTIES: Final = ("hw_", "os_", "architecture")
_NO_PROPERTIES: Final = ("os_hash_algo", "os_hash_value", "os_hidden")


def image_properties(record: Mapping[str, Any]) -> dict[str, str]:
    """What an image says of the guests that are made from it.

    :param record: the image service's, flat.
    """
    return {
        name: value
        for name, value in record.items()
        if name.startswith(_PROPERTIES) and name not in _NO_PROPERTIES and isinstance(value, str)
    }


class Spawn:
    """Makes one instance."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        host: Host,
        cache: ImageCache,
        files: InstanceFiles,
        tool: QemuImg,
    ) -> None:
        self._conf = conf
        self._host = host
        self._cache = cache
        self._files = files
        self._tool = tool
        self._phase = "before anything was done"

    def run(
        self,
        context: nova_context.RequestContext,
        instance: driver.InstanceLike,
        request: driver.SpawnRequest,
        check: Callable[[], None],
    ) -> None:
        """See :meth:`nova_snap.virt.driver.ComputeDriver.spawn`."""
        unwanted = _Unwanted(check)
        try:
            self._run(context, instance, request, unwanted)
        except Exception as exc:
            if exc is unwanted.error or isinstance(exc, exception.ImageUnacceptable):
                raise
            if not isinstance(exc, exception.NovaSnapError):
                LOG.exception("Unforeseen error in making instance %s", instance.uuid)
            raise exception.SpawnFailed(
                instance_uuid=instance.uuid,
                phase=self._phase,
                reason=str(exc) or type(exc).__name__,
            ) from exc

    def _run(
        self,
        context: nova_context.RequestContext,
        instance: driver.InstanceLike,
        request: driver.SpawnRequest,
        check: "_Unwanted",
    ) -> None:
        self._begin("look at the image's record", check)
        self._refuse_second(instance)
        architecture = platform.machine()
        properties = image_properties(request.image_meta)
        image_inspection.check_record(request.image_id, request.image_meta)
        domain_builder.check_properties(request.image_id, properties, architecture)
        self._begin("get the image", check)
        image = self._cache.get(
            context, request.image_id, request.image_meta, request.root_gb, check
        )
        with self._all_or_nothing(instance):
            self._begin("make the disk", check)
            self._make_disk(instance, image, request.root_gb)
            self._begin("define the domain", check)
            spec = self._spec(instance, request, properties, architecture)
            guest = self._host.define(domain_builder.build(spec), instance.name)
            self._begin("start the guest", check)
            guest.launch(paused=False, seconds=self._host.operation_timeout)
            # It may have been deleted while libvirt was busy.
            check()
        LOG.info("Made instance %s from image %s", instance.uuid, request.image_id)

    def _begin(self, phase: str, check: "_Unwanted") -> None:
        check()
        self._phase = phase

    def _refuse_second(self, instance: driver.InstanceLike) -> None:
        """What is not made here must not be removed here when it fails."""
        if self._conf.libvirt.virt_type == "lxc":
            raise exception.HypervisorUnsupported(
                operation="make instances", reason="[libvirt] virt_type is lxc"
            )
        for lookup, key in (
            (self._host.get_guest_by_uuid, instance.uuid),
            (self._host.get_guest, instance.name),
        ):
            with contextlib.suppress(exception.DomainNotFound):
                raise exception.DomainExists(domain=lookup(key).name, key=key)

    @contextlib.contextmanager
    def _all_or_nothing(self, instance: driver.InstanceLike) -> Iterator[None]:
        try:
            yield
        except BaseException:
            try:
                remove(self._host, self._files, instance)
            except exception.NovaSnapError:
                LOG.exception("Instance %s could not be removed after a failure", instance.uuid)
            raise

    def _make_disk(self, instance: driver.InstanceLike, image: CachedImage, root_gb: int) -> None:
        self._files.make_directory(instance.uuid)
        user = self._tool.user
        disk = self._files.make_disk(instance.uuid, None if user is None else user.gid)
        size = root_gb * units.Gi or image.virtual_size
        backing = chain.Layer(image.path, image.format, image.virtual_size)
        self._tool.create_overlay(disk, [backing], size)

    def _spec(
        self,
        instance: driver.InstanceLike,
        request: driver.SpawnRequest,
        properties: Mapping[str, str],
        architecture: str,
    ) -> domain_builder.DomainSpec:
        virt_type = self._conf.libvirt.virt_type
        default_cpu = "host-model" if virt_type == "kvm" else "maximum"
        disk = self._files.disk(instance.uuid)
        return domain_builder.DomainSpec(
            uuid=instance.uuid,
            name=instance.name,
            virt_type=virt_type,
            architecture=architecture,
            cpu_mode=self._conf.libvirt.cpu_mode or default_cpu,
            vcpus=request.vcpus,
            memory_mb=request.memory_mb,
            disk=disk,
            cache="none" if _has_direct_io(disk) else "writeback",
            console_log=self._files.console_log(instance.uuid),
            network=request.network,
            image_properties=properties,
            nova=_metadata(instance, request, properties),
        )


class _Unwanted:
    """The caller's check, which remembers what it raised: that is no failure of the spawn."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self.error: Exception | None = None

    def __call__(self) -> None:
        try:
            self._check()
        except Exception as exc:
            self.error = exc
            raise


def remove(host: Host, files: InstanceFiles, instance: driver.InstanceLike) -> None:
    """End an instance, forget its domain and remove its files, as far as they are there.

    The domain is the one with the instance's uuid: another may have its name.

    :raises nova_snap.exception.NovaSnapError: if something could not be removed.
    """
    try:
        guest = host.get_guest_by_uuid(instance.uuid)
        guest.end()
        if guest.is_persistent():
            guest.undefine(host.capabilities())
    except exception.DomainNotFound:
        LOG.debug("Instance %s has no domain any more", instance.uuid)
    files.remove(instance.uuid)


def _metadata(
    instance: driver.InstanceLike, request: driver.SpawnRequest, properties: Mapping[str, str]
) -> nova_metadata.NovaMetadata:
    now = datetime.datetime.now(datetime.UTC)
    return nova_metadata.NovaMetadata(
        display_name=request.display_name,
        created_at=now.strftime("%Y-%m-%d %H:%M:%S"),
        project_id=instance.project_id,
        project_name=request.project_name,
        user_id=instance.user_id,
        user_name=request.user_name,
        image_ref=request.image_id,
        flavor_name=request.flavor_name,
        memory_mb=request.memory_mb,
        vcpus=request.vcpus,
        root_gb=request.root_gb,
        ephemeral_gb=0,
        swap_mb=0,
        image_properties=properties,
    )


def _has_direct_io(path: str) -> bool:
    """Whether the file system can do without the page cache: a guest has one of its own."""
    try:
        os.close(os.open(path, os.O_RDONLY | os.O_DIRECT | os.O_CLOEXEC))
    except OSError as exc:
        if exc.errno == errno.EINVAL:
            return False
        raise
    return True
