# SPDX-License-Identifier: Apache-2.0
"""A driver without a hypervisor, for tests and load runs.

It keeps to the contract of :class:`nova_snap.virt.driver.ComputeDriver`: its snapshots go through
the same states and end as real uploads. Its delays and failures are set in ``[fake]``.
"""

import hashlib
import io
import itertools
import threading
from collections.abc import Sequence

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.compute import power_state, task_states
from nova_snap.virt import driver

LOG = logging.getLogger(__name__)

METHOD = "fake"


def snapshot_data(instance_uuid: str, size: int) -> bytes:
    """What the image of an instance holds: always the same for the same arguments.

    :param size: in bytes.
    """
    blocks = (
        hashlib.sha256(f"{instance_uuid} {number}".encode()).digest()
        for number in itertools.count()
    )
    data = bytearray()
    while len(data) < size:
        data += next(blocks)
    return bytes(data[:size])


class FakeDriver(driver.ComputeDriver):
    """Every instance runs here, whether :meth:`add_domain` was told of it or not."""

    def __init__(self, conf: cfg.ConfigOpts, image_api: driver.ImageUploader) -> None:
        self._conf = conf
        self._image_api = image_api
        self._closed = threading.Event()
        self._lock = threading.Lock()
        self._domains: dict[str, driver.AdoptedDomain] = {}

    def add_domain(self, domain: driver.AdoptedDomain) -> None:
        """Let :meth:`list_domains` and :meth:`describe_domain` know of a domain."""
        with self._lock:
            self._domains[domain.name] = domain

    def init_host(self) -> None:
        self._closed.clear()

    def close(self) -> None:
        """See the base class. Ends the delays of snapshots that run: they fail."""
        self._closed.set()

    def get_info(self, instance: driver.InstanceLike) -> driver.InstanceInfo:
        with self._lock:
            domain = self._domains.get(instance.name)
        return driver.InstanceInfo(state=domain.state if domain else power_state.RUNNING)

    def snapshot(
        self,
        context: nova_context.RequestContext,
        instance: driver.InstanceLike,
        image_id: str,
        update_task_state: driver.UpdateTaskState,
        monitor: driver.SnapshotMonitor | None = None,
    ) -> driver.SnapshotReport:
        monitor = monitor or driver.NoMonitor()
        record = self._image_api.get(context, image_id)
        self._phase(instance, image_id, task_states.IMAGE_SNAPSHOT)
        update_task_state(task_states.IMAGE_PENDING_UPLOAD)
        self._phase(instance, image_id, task_states.IMAGE_PENDING_UPLOAD)
        update_task_state(
            task_states.IMAGE_UPLOADING, expected_state=task_states.IMAGE_PENDING_UPLOAD
        )
        self._phase(instance, image_id, task_states.IMAGE_UPLOADING)
        monitor.check()
        data = snapshot_data(instance.uuid, self._conf.fake.snapshot_size)
        metadata = {
            "name": record["name"],
            "disk_format": "raw",
            "container_format": "bare",
            "properties": {"image_location": "snapshot", "image_state": "available"},
        }
        try:
            self._image_api.update(context, image_id, metadata, io.BytesIO(data), len(data))
        except exception.ImageNotFound:
            raise
        except exception.NovaSnapError as exc:
            raise self._failure(instance, image_id, task_states.IMAGE_UPLOADING, str(exc)) from exc
        monitor.progress(len(data), len(data))
        return driver.SnapshotReport(
            method=METHOD,
            reason="compute_driver is the fake driver",
            image_format="raw",
            uploaded_bytes=len(data),
            quiesced=False,
        )

    def clean_up_after_restart(self, instance: driver.InstanceLike) -> None:
        LOG.debug("Nothing is left of the snapshots of instance %s", instance.uuid)

    def list_domains(self) -> Sequence[str]:
        with self._lock:
            return sorted(self._domains)

    def describe_domain(self, name: str) -> driver.AdoptedDomain:
        with self._lock:
            try:
                return self._domains[name]
            except KeyError:
                raise exception.DomainNotFound(domain=name) from None

    def _phase(self, instance: driver.InstanceLike, image_id: str, phase: str) -> None:
        if self._closed.wait(self._conf.fake.snapshot_delay):
            raise self._failure(instance, image_id, phase, "the driver was closed")
        if self._conf.fake.fail_in == phase:
            raise self._failure(instance, image_id, phase, f"[fake] fail_in is {phase}")

    def _failure(
        self, instance: driver.InstanceLike, image_id: str, phase: str, reason: str
    ) -> exception.SnapshotFailed:
        return exception.SnapshotFailed(
            instance_uuid=instance.uuid,
            image_id=image_id,
            method=METHOD,
            phase=phase,
            reason=reason,
        )
