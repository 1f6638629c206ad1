# SPDX-License-Identifier: Apache-2.0
"""A driver without a hypervisor, for tests and load runs.

It keeps to the contract of :class:`nova_snap.virt.driver.ComputeDriver`: its snapshots go through
the same states and end as real uploads. Its delays and faults are set in ``[fake]``.
"""

import hashlib
import io
import itertools
import string
import threading
from collections.abc import Callable, Mapping, Sequence

from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import strutils

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.compute import power_state, task_states
from nova_snap.virt import driver, fake_faults

LOG = logging.getLogger(__name__)

METHOD = "fake"
ROOT_DISK = "vda"


def snapshot_data(seed: str, size: int) -> bytes:
    """What the image of a disk holds: always the same for the same arguments.

    :param seed: the instance's uuid; for another disk than the root disk also its name, such as
        ``<uuid> vdb``.
    :param size: in bytes.
    """
    blocks = (hashlib.sha256(f"{seed} {number}".encode()).digest() for number in itertools.count())
    data = bytearray()
    while len(data) < size:
        data += next(blocks)
    return bytes(data[:size])


class FakeDriver(driver.ComputeDriver):
    """Every instance runs here, whether :meth:`add_domain` was told of it or not."""

    def __init__(self, conf: cfg.ConfigOpts, image_api: driver.ImageService) -> None:
        self._conf = conf
        self._image_api = image_api
        self._closed = threading.Event()
        self._stage = fake_faults.Stage(conf, self._closed)
        self._lock = threading.Lock()
        self._domains: dict[str, driver.AdoptedDomain] = {}
        self._states: dict[str, int] = {}
        self._destroyed: set[str] = set()
        self._frozen: set[tuple[str, str]] = set()
        self._callbacks: list[Callable[[str, int], None]] = []

    def add_domain(self, domain: driver.AdoptedDomain) -> None:
        """Let :meth:`list_domains` and :meth:`describe_domain` know of a domain."""
        with self._lock:
            self._domains[domain.name] = domain

    def change_power_state(self, instance_uuid: str, state: int) -> None:
        """Have a guest change its state by itself, and tell whoever wants to know.

        :param state: a number of :mod:`nova_snap.compute.power_state`.
        """
        with self._lock:
            self._states[instance_uuid] = state
            callbacks = list(self._callbacks)
        for callback in callbacks:
            callback(instance_uuid, state)

    def init_host(self) -> None:
        self._closed.clear()

    def close(self) -> None:
        """See the base class. Ends the delays of snapshots that run: they fail."""
        self._closed.set()

    def get_info(self, instance: driver.InstanceLike) -> driver.InstanceInfo:
        with self._lock:
            if instance.uuid in self._destroyed:
                raise exception.DomainNotFound(domain=instance.name)
            domain = self._domains.get(instance.name)
            unchanged = domain.state if domain else power_state.RUNNING
            return driver.InstanceInfo(state=self._states.get(instance.uuid, unchanged))

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
        name = self._image_api.get(context, image_id)["name"]
        self._phase(instance, image_id, task_states.IMAGE_SNAPSHOT, monitor)
        others = self._create_further(instance, image_id, further_images)
        update_task_state(task_states.IMAGE_PENDING_UPLOAD)
        self._phase(instance, image_id, task_states.IMAGE_PENDING_UPLOAD, monitor)
        update_task_state(
            task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD
        )
        # The image that was asked for is the last one.
        images = {**others, ROOT_DISK: image_id}
        if self._phase(instance, image_id, task_states.IMAGE_UPLOADING, monitor):
            self._upload_all(context, instance, images, name, monitor)
        return driver.SnapshotReport(
            method=METHOD,
            reason="compute_driver is the fake driver",
            image_format="raw",
            uploaded_bytes=len(images) * self._conf.fake.snapshot_size,
            quiesced=False,
            images={ROOT_DISK: image_id, **others} if others else {},
        )

    def _upload_all(
        self,
        context: nova_context.RequestContext,
        instance: driver.InstanceLike,
        images: Mapping[str, str],
        name: str,
        monitor: driver.SnapshotMonitor,
    ) -> None:
        """:param images: by disk. :param name: of the root disk's."""
        size = self._conf.fake.snapshot_size
        for number, (disk, image_id) in enumerate(images.items(), start=1):
            monitor.check()
            seed = instance.uuid if disk == ROOT_DISK else f"{instance.uuid} {disk}"
            named = {"name": name} if disk == ROOT_DISK else {}
            try:
                self._upload(context, image_id, named, snapshot_data(seed, size))
            except exception.ImageNotFound:
                raise
            except exception.NovaSnapError as exc:
                phase = task_states.IMAGE_UPLOADING
                raise self._failure(instance, images[ROOT_DISK], phase, exc) from exc
            monitor.progress(number * size, len(images) * size)

    def _create_further(
        self,
        instance: driver.InstanceLike,
        image_id: str,
        further_images: driver.FurtherImages | None,
    ) -> Mapping[str, str]:
        letters = string.ascii_lowercase[1 : self._conf.fake.snapshot_disks]
        disks = [f"vd{letter}" for letter in letters]
        if further_images is None or not disks:
            return {}
        try:
            return dict(zip(disks, further_images.create(ROOT_DISK, disks), strict=True))
        except exception.ImageNotFound:
            raise
        except exception.NovaSnapError as exc:
            phase = task_states.IMAGE_SNAPSHOT
            raise self._failure(instance, image_id, phase, exc) from exc

    def _upload(
        self,
        context: nova_context.RequestContext,
        image_id: str,
        named: Mapping[str, str],
        data: bytes,
    ) -> None:
        metadata = {
            **named,
            "disk_format": "raw",
            "container_format": "bare",
            "properties": {"image_location": "snapshot", "image_state": "available"},
        }
        self._image_api.update(context, image_id, metadata, io.BytesIO(data), len(data))

    def quiesce(self, instance: driver.InstanceLike, key: str) -> None:
        """See the base class. Only a guest with an agent can be frozen; it stays so for ever."""
        done = self._act(instance, "quiesce")
        self.get_info(instance)
        if not strutils.bool_from_string(instance.image_properties.get("hw_qemu_guest_agent")):
            reason = "the image property hw_qemu_guest_agent is not set"
            raise exception.QuiesceUnsupported(domain=instance.name, reason=reason)
        with self._lock:
            if done:
                self._frozen.add((instance.uuid, key))

    def unquiesce(self, instance_uuid: str, key: str) -> bool:
        done = self._stage.passes("unquiesce", instance_uuid, "", 0.0)
        with self._lock:
            frozen = (instance_uuid, key) in self._frozen
            if done:
                self._frozen.discard((instance_uuid, key))
            return frozen

    def is_frozen(self, instance_uuid: str) -> bool:
        """Whether the guest is frozen now."""
        with self._lock:
            return any(uuid == instance_uuid for uuid, _ in self._frozen)

    def clean_up_after_restart(self, instance: driver.InstanceLike) -> Sequence[str]:
        LOG.debug("Nothing is left of the snapshots of instance %s", instance.uuid)
        return ()

    def list_domains(self) -> Sequence[str]:
        with self._lock:
            return sorted(self._domains)

    def describe_domain(self, name: str) -> driver.AdoptedDomain:
        with self._lock:
            try:
                return self._domains[name]
            except KeyError:
                raise exception.DomainNotFound(domain=name) from None

    # -- the life of an instance -----------------------------------------------------------

    def spawn(
        self,
        context: nova_context.RequestContext,
        instance: driver.InstanceLike,
        request: driver.SpawnRequest,
        check: Callable[[], None],
    ) -> None:
        check()
        try:
            self._image_api.get(context, request.image_id)
        except exception.NovaSnapError as exc:
            raise self._spawn_failure(instance, str(exc)) from exc
        delay = self._conf.fake.spawn_delay
        try:
            done = self._stage.passes("spawn", instance.uuid, instance.name, delay, check)
        except exception.FakeFailure as exc:
            raise self._spawn_failure(instance, str(exc)) from exc
        with self._lock:
            if done:
                self._destroyed.discard(instance.uuid)
                self._states[instance.uuid] = power_state.RUNNING
            else:
                self._destroyed.add(instance.uuid)

    def destroy(self, instance: driver.InstanceLike) -> None:
        if not self._act(instance, "destroy"):
            return
        with self._lock:
            self._domains.pop(instance.name, None)
            self._states.pop(instance.uuid, None)
            self._destroyed.add(instance.uuid)

    def power_on(self, instance: driver.InstanceLike) -> None:
        self._switch(instance, "power_on", power_state.RUNNING)

    def power_off(self, instance: driver.InstanceLike, timeout: float) -> None:  # noqa: ARG002
        self._switch(instance, "power_off", power_state.SHUTDOWN)

    def reboot(
        self,
        instance: driver.InstanceLike,
        hard: bool,  # noqa: ARG002
        timeout: float,  # noqa: ARG002
    ) -> None:
        self._switch(instance, "reboot", power_state.RUNNING)

    def pause(self, instance: driver.InstanceLike) -> None:
        self._switch(instance, "pause", power_state.PAUSED)

    def unpause(self, instance: driver.InstanceLike) -> None:
        self._switch(instance, "unpause", power_state.RUNNING)

    def suspend(self, instance: driver.InstanceLike) -> None:
        self._switch(instance, "suspend", power_state.SHUTDOWN)

    def resume(self, instance: driver.InstanceLike) -> None:
        self._switch(instance, "resume", power_state.RUNNING)

    def get_console_output(self, instance: driver.InstanceLike) -> bytes:
        self._act(instance, "get_console_output")
        self.get_info(instance)
        return f"console of {instance.uuid}\n".encode()

    def on_lifecycle_event(self, callback: Callable[[str, int], None]) -> None:
        """See the base class. Only :meth:`change_power_state` calls it, in its own thread."""
        with self._lock:
            self._callbacks.append(callback)

    def host_resources(self) -> driver.HostResources:
        """See the base class. It is always the same host, without any guest."""
        return driver.HostResources(
            hostname=self._conf.host,
            hypervisor_type="fake",
            hypervisor_version=1_000_000,
            vcpus=1000,
            vcpus_used=0,
            memory_mb=8_000_000,
            memory_mb_used=0,
            local_gb=600_000,
            local_gb_used=0,
            disk_available_gb=600_000,
            running_vms=0,
            cpu_info={"arch": "x86_64", "model": "fake", "vendor": "fake", "topology": {}},
            uptime="00:00:00 up 0 days,  0:00,  load average: 0.00, 0.00, 0.00",
        )

    def _switch(self, instance: driver.InstanceLike, action: str, state: int) -> None:
        done = self._act(instance, action)
        self.get_info(instance)
        with self._lock:
            if done:
                self._states[instance.uuid] = state

    def _act(self, instance: driver.InstanceLike, action: str) -> bool:
        """Whether it is to be done."""
        delay = self._conf.fake.action_delay
        return self._stage.passes(action, instance.uuid, instance.name, delay)

    def _spawn_failure(self, instance: driver.InstanceLike, reason: str) -> exception.SpawnFailed:
        return exception.SpawnFailed(instance_uuid=instance.uuid, phase="start", reason=reason)

    def _phase(
        self,
        instance: driver.InstanceLike,
        image_id: str,
        phase: str,
        monitor: driver.SnapshotMonitor,
    ) -> bool:
        """Whether what is done in it is to be done."""
        delay = self._conf.fake.snapshot_delay
        try:
            return self._stage.passes(phase, instance.uuid, instance.name, delay, monitor.check)
        except exception.FakeFailure as exc:
            raise self._failure(instance, image_id, phase, exc) from exc

    def _failure(
        self, instance: driver.InstanceLike, image_id: str, phase: str, error: Exception
    ) -> exception.SnapshotFailed:
        return exception.SnapshotFailed(
            instance_uuid=instance.uuid,
            image_id=image_id,
            method=METHOD,
            phase=phase,
            reason=str(error),
        )
