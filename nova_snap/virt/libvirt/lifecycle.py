# SPDX-License-Identifier: Apache-2.0
"""The life of libvirt guests, put together from the modules beside this one."""

import os
from collections.abc import Callable
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.virt import driver
from nova_snap.virt.libvirt import console, events, qemu_img, resources, spawn
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.image_cache import ImageCache
from nova_snap.virt.libvirt.instance_files import InstanceFiles
from nova_snap.virt.libvirt.power import Power

LOG = logging.getLogger(__name__)

KVM_DEVICE: Final = "/dev/kvm"


class LibvirtLifecycle(driver.ComputeDriver):
    """The part of the driver that makes, ends and switches instances.

    An instance is the domain that has its uuid: the name may be that of somebody else's domain.
    """

    def __init__(
        self, conf: cfg.ConfigOpts, image_api: driver.ImageService, host: Host | None = None
    ) -> None:
        self._conf = conf
        self._image_api = image_api
        self._host = host or Host(conf)
        self._tool = qemu_img.QemuImg(conf)
        self._files = InstanceFiles(conf)
        self._cache = ImageCache(conf, image_api, self._files)
        self._power = Power(conf)
        self._events = events.Listener(self._host)

    def init_host(self) -> None:
        """See the base class. Also removes what broken downloads have left."""
        self._cache.remove_unused()
        if self._conf.libvirt.virt_type == "kvm" and not os.path.exists(KVM_DEVICE):
            LOG.warning(
                "There is no %s: no instance can be made here with [libvirt] virt_type = kvm; "
                "without hardware virtualisation set it to qemu",
                KVM_DEVICE,
            )

    def close(self) -> None:
        self._events.close()
        self._host.close()

    def spawn(
        self,
        context: nova_context.RequestContext,
        instance: driver.InstanceLike,
        request: driver.SpawnRequest,
        check: Callable[[], None],
    ) -> None:
        made = spawn.Spawn(self._conf, self._host, self._cache, self._files, self._tool)
        made.run(context, instance, request, check)

    def destroy(self, instance: driver.InstanceLike) -> None:
        spawn.remove(self._host, self._files, instance)
        LOG.info("Removed instance %s", instance.uuid)

    def power_on(self, instance: driver.InstanceLike) -> None:
        self._power.on(self._guest(instance))

    def power_off(self, instance: driver.InstanceLike, timeout: float) -> None:
        self._power.off(self._guest(instance), timeout)

    def reboot(self, instance: driver.InstanceLike, hard: bool, timeout: float) -> None:
        self._power.reboot(self._guest(instance), hard, timeout)

    def pause(self, instance: driver.InstanceLike) -> None:
        self._power.pause(self._guest(instance))

    def unpause(self, instance: driver.InstanceLike) -> None:
        self._power.unpause(self._guest(instance))

    def suspend(self, instance: driver.InstanceLike) -> None:
        self._power.suspend(self._guest(instance))

    def resume(self, instance: driver.InstanceLike) -> None:
        self._power.resume(self._guest(instance))

    def get_console_output(self, instance: driver.InstanceLike) -> bytes:
        return console.read(self._guest(instance))

    def on_lifecycle_event(self, callback: Callable[[str, int], None]) -> None:
        self._events.add(callback)

    def host_resources(self) -> driver.HostResources:
        return resources.read(self._host, self._files)

    def _guest(self, instance: driver.InstanceLike) -> Guest:
        """:raises nova_snap.exception.DomainNotFound: by the name that an operator knows."""
        try:
            return self._host.get_guest_by_uuid(instance.uuid)
        except exception.DomainNotFound as exc:
            raise exception.DomainNotFound(domain=instance.name) from exc
