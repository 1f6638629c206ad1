# SPDX-License-Identifier: Apache-2.0
"""The libvirt driver: snapshots of guests, put together from the modules beside this one."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.virt import driver
from nova_snap.virt.libvirt import (
    adoption,
    domain_xml,
    imagebackend,
    lifecycle,
    quiesce,
    snapshot_metadata,
)
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.snapshot import workdir
from nova_snap.virt.libvirt.snapshot.base import Request, SnapshotMethod
from nova_snap.virt.libvirt.snapshot.managed_save import ManagedSave
from nova_snap.virt.libvirt.snapshot.methods import Choice, GuestFacts, Method, choose_method
from nova_snap.virt.libvirt.snapshot.mirror import Mirror
from nova_snap.virt.libvirt.snapshot.offline import Offline
from nova_snap.virt.libvirt.snapshot.recovery import Recovery
from nova_snap.virt.libvirt.snapshot.stream import Stream

LOG = logging.getLogger(__name__)

# Not failures of the snapshot: somebody took the instance or the image away from under it.
_PASS_ON: Final = (
    exception.ImageNotFound,
    exception.InstanceNotFound,
    exception.UnexpectedTaskState,
)


class _Progress:
    """How far a snapshot is, for the error that says where it failed."""

    def __init__(
        self, update_task_state: driver.UpdateTaskState, monitor: driver.SnapshotMonitor
    ) -> None:
        self._update_task_state = update_task_state
        self.monitor = monitor
        self.phase: str = task_states.IMAGE_SNAPSHOT
        self.method = "none"

    def begin(self) -> None:
        """The disk's content is taken from here on."""
        self.monitor.check()
        self._update_task_state(task_states.IMAGE_PENDING_UPLOAD)
        self.phase = task_states.IMAGE_PENDING_UPLOAD

    def upload(self) -> None:
        """The content is sent from here on."""
        self.monitor.check()
        self._update_task_state(
            task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD
        )
        self.phase = task_states.IMAGE_UPLOADING


class LibvirtDriver(lifecycle.LibvirtLifecycle):
    """The guests of one libvirt."""

    def __init__(
        self, conf: cfg.ConfigOpts, image_api: driver.ImageService, host: Host | None = None
    ) -> None:
        super().__init__(conf, image_api, host)
        self._recovery = Recovery(conf, self._host)

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

    def clean_up_after_restart(self, instance: driver.InstanceLike) -> None:
        """See the base class. What cannot be put right is logged, and tried again next time."""
        self._recovery.recover(instance.uuid)
        try:
            self._recovery.end_stray_copy(self._guest(instance))
        except exception.NovaSnapError as exc:
            LOG.warning("Instance %s could not be cleaned up after: %s", instance.uuid, exc)

    def snapshot(
        self,
        context: nova_context.RequestContext,
        instance: driver.InstanceLike,
        image_id: str,
        update_task_state: driver.UpdateTaskState,
        monitor: driver.SnapshotMonitor | None = None,
    ) -> driver.SnapshotReport:
        monitor = monitor or driver.NoMonitor()
        progress = _Progress(update_task_state, monitor)
        try:
            return self._snapshot(context, instance, image_id, progress)
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
                reason=str(exc) or type(exc).__name__,
            ) from exc

    def _snapshot(
        self,
        context: nova_context.RequestContext,
        instance: driver.InstanceLike,
        image_id: str,
        progress: _Progress,
    ) -> driver.SnapshotReport:
        # What an earlier snapshot left, should a start have failed to put it right.
        self._recovery.recover(instance.uuid)
        guest = self._guest(instance)
        base = self._base_image(context, instance)
        snapshot = self._image_api.get(context, image_id)
        domain = guest.describe()
        disk = domain.root_disk()
        policy = quiesce.Policy.from_properties(instance.image_properties)
        facts = _facts(guest, domain, policy)
        file_format = snapshot_metadata.image_format(
            self._conf.libvirt.snapshot_image_format, disk.format
        )
        choice = choose_method(
            self._host.capabilities(), self._conf.libvirt.snapshot_method, facts, disk, file_format
        )
        progress.method = choice.method.value
        LOG.info(
            "Snapshot %s of instance %s by method %s: %s",
            image_id, instance.uuid, choice.method, choice.reason,
        )  # fmt: skip
        metadata = self._create_snapshot_metadata(base, instance, file_format, snapshot["name"])
        quiesced = quiesce.can_quiesce(policy, facts.power_state, domain)
        with self._temporary(instance, guest, choice, facts, disk) as directory:
            request = Request(
                guest=guest,
                domain=domain,
                power_state=facts.power_state,
                disk=disk,
                backend=imagebackend.snapshot_backend(disk, self._tool, self._compress),
                image_format=file_format,
                workdir=directory,
                begin=progress.begin,
                quiesce=quiesced,
                quiesce_required=policy.required,
                monitor=progress.monitor,
            )
            with self._method(choice.method).open(request) as content:
                progress.upload()
                self._image_api.update(
                    context, image_id, metadata, content.data, content.size,
                    on_cancel=progress.monitor.on_cancel,
                )  # fmt: skip
                uploaded = content.data.tell()
                temp_bytes = content.temp_bytes()
        return driver.SnapshotReport(
            method=choice.method.value,
            reason=choice.reason,
            image_format=file_format,
            uploaded_bytes=uploaded,
            quiesced=content.quiesced,
            temp_bytes=temp_bytes,
        )

    @property
    def _compress(self) -> bool:
        return self._conf.libvirt.snapshot_compression in ("zlib", "zstd")

    def _base_image(
        self, context: nova_context.RequestContext, instance: driver.InstanceLike
    ) -> Mapping[str, Any]:
        """The image that the instance was made from, which may be long gone."""
        if not instance.image_ref:
            return {}
        try:
            return self._image_api.get(context, instance.image_ref)
        except (exception.ImageNotFound, exception.ImageForbidden) as exc:
            LOG.info("The base image of instance %s is not used: %s", instance.uuid, exc)
            return {}

    def _create_snapshot_metadata(
        self,
        base: Mapping[str, Any],
        instance: driver.InstanceLike,
        image_format: str,
        snapshot_name: str,
    ) -> dict[str, Any]:
        return snapshot_metadata.create(base, instance, image_format, snapshot_name)

    @contextlib.contextmanager
    def _temporary(
        self,
        instance: driver.InstanceLike,
        guest: Guest,
        choice: Choice,
        facts: GuestFacts,
        disk: domain_xml.Disk,
    ) -> Iterator[workdir.WorkDir]:
        """The snapshot's directory, gone in every outcome in which its guest is right again."""
        directory = workdir.create(self._conf.libvirt.snapshots_directory, instance.uuid)
        try:
            directory.note(
                domain=guest.name,
                domain_uuid=guest.uuid,
                method=choice.method.value,
                disk=disk.target,
                power_state=facts.power_state,
            )
            yield directory
        finally:
            directory.close()

    def _method(self, method: Method) -> SnapshotMethod:
        made: Mapping[Method, Callable[[], SnapshotMethod]] = {
            Method.STREAM: lambda: Stream(self._conf, self._tool, self._host.capabilities()),
            Method.OFFLINE: lambda: Offline(self._conf),
            Method.MANAGED_SAVE: lambda: ManagedSave(self._conf),
            Method.MIRROR: lambda: Mirror(
                self._conf, self._host, self._tool, self._host.capabilities()
            ),
        }
        return made[method]()


def _facts(guest: Guest, domain: domain_xml.Domain, policy: quiesce.Policy) -> GuestFacts:
    return GuestFacts(
        power_state=guest.power_state(),
        active=guest.is_active(),
        virt_type=domain.virt_type,
        has_managed_save=guest.has_managed_save(),
        quiesce_required=policy.required,
    )
