# SPDX-License-Identifier: Apache-2.0
"""The libvirt driver: snapshots of guests, put together from the modules beside this one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.virt import driver
from nova_snap.virt.libvirt import adoption, lifecycle
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.snapshot import workdir
from nova_snap.virt.libvirt.snapshot.held import HeldGuests
from nova_snap.virt.libvirt.snapshot.progress import Progress
from nova_snap.virt.libvirt.snapshot.recovery import Recovery
from nova_snap.virt.libvirt.snapshot.taking import Order, Taking

LOG = logging.getLogger(__name__)

# Not failures of the snapshot: somebody took the instance or the image away from under it.
_PASS_ON: Final = (
    exception.ImageNotFound,
    exception.InstanceNotFound,
    exception.UnexpectedTaskState,
)


class LibvirtDriver(lifecycle.LibvirtLifecycle):
    """The guests of one libvirt."""

    def __init__(
        self, conf: cfg.ConfigOpts, image_api: driver.ImageService, host: Host | None = None
    ) -> None:
        super().__init__(conf, image_api, host)
        self._recovery = Recovery(conf, self._host, image_api)
        self._held = HeldGuests(conf, self._host)
        self._taking = Taking(conf, self._host, self._tool, image_api)

    def init_host(self) -> None:
        """See the base class. Also ends what an earlier process left of its snapshots.

        :raises nova_snap.exception.HypervisorUnavailable: also if libvirt is of another kind
            than ``[libvirt] virt_type`` says.
        """
        found = self._host.capabilities()
        wanted = "LXC" if self._conf.libvirt.virt_type == "lxc" else "QEMU"
        if found.hypervisor != wanted:
            reason = (
                f"[libvirt] virt_type = {self._conf.libvirt.virt_type} needs a {wanted} "
                f"connection, and this is {found.hypervisor}"
            )
            raise exception.HypervisorUnavailable(uri=self._host.uri, reason=reason)
        LOG.info("Host: %s", found)
        super().init_host()
        self._recovery.recover()

    def get_info(self, instance: driver.InstanceLike) -> driver.InstanceInfo:
        return driver.InstanceInfo(state=self._guest(instance).power_state())

    def list_domains(self) -> Sequence[str]:
        return self._host.list_domains()

    def describe_domain(self, name: str) -> driver.AdoptedDomain:
        return adoption.describe(self._host.get_guest(name))

    def quiesce(self, instance: driver.InstanceLike, key: str) -> None:
        # What an earlier snapshot left, should a start have failed to put it right.
        self._recovery.recover(instance.uuid)
        self._held.freeze(instance, self._guest(instance), key)

    def unquiesce(self, instance_uuid: str, key: str) -> bool:
        return self._held.thaw(instance_uuid, key)

    def close(self) -> None:
        """See the base class. Thaws the guests that are held still."""
        self._held.close()
        super().close()

    def clean_up_after_restart(self, instance: driver.InstanceLike) -> Sequence[str]:
        """See the base class. What cannot be put right is logged, and tried again next time."""
        lost = self._recovery.recover(instance.uuid)
        try:
            self._recovery.end_stray_copy(self._guest(instance))
        except exception.NovaSnapError as exc:
            LOG.warning("Instance %s could not be cleaned up after: %s", instance.uuid, exc)
        return lost

    def unfinished(self) -> Sequence[str]:
        return workdir.instances(self._conf.libvirt.snapshots_directory)

    def snapshot(
        self,
        context: nova_context.RequestContext,
        instance: driver.InstanceLike,
        image_id: str,
        update_task_state: driver.UpdateTaskState,
        monitor: driver.SnapshotMonitor | None = None,
        further_images: driver.FurtherImages | None = None,
    ) -> driver.SnapshotReport:
        monitor = monitor or driver.NoMonitor()
        progress = Progress(update_task_state, monitor)
        try:
            # What an earlier snapshot left, should a start have failed to put it right.
            self._recovery.recover(instance.uuid)
            order = Order(context, instance, image_id, progress, further_images)
            return self._taking.take(order, self._guest(instance))
        except _PASS_ON:
            raise
        except Exception as exc:
            # What broke because the snapshot was stopped is no failure.
            monitor.check()
            if not isinstance(exc, exception.NovaSnapError):
                LOG.exception("Unforeseen error in the snapshot of instance %s", instance.uuid)
            raise exception.SnapshotFailed(
                instance_uuid=instance.uuid,
                image_id=image_id,
                method=progress.method,
                phase=progress.phase,
                reason=progress.where + (str(exc) or type(exc).__name__),
                warnings=progress.warnings,
            ) from exc
