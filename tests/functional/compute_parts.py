# SPDX-License-Identifier: Apache-2.0
"""The compute API and a compute host that hears it, over messages in this process."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import oslo_messaging
import pytest
from oslo_config import cfg

from nova_snap.compute import api, power_state, rpc, rpcapi
from nova_snap.compute.heartbeat import Heartbeat
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_api import LifecycleAPI, ServerRequest
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.service import ComputeService
from nova_snap.compute.volume_manager import VolumeManager
from nova_snap.context import RequestContext
from nova_snap.db import queries
from nova_snap.db.session import Database
from nova_snap.objects.flavor import Flavor
from nova_snap.objects.instance import Instance, InstanceFilters
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.instance_fault import InstanceFault
from nova_snap.virt.driver import InstanceLike, SpawnRequest
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.volumes import MemoryVolumes

SOON = 20
SMALL = Flavor("1", "m1.tiny", memory_mb=512, vcpus=1, root_gb=1)


def wait_until(condition: Callable[[], Any], what: str = "it") -> None:
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until, f"{what} never came true"
        time.sleep(0.01)


class Gate:
    """Where a driver waits when it is closed."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._open = threading.Event()
        self._open.set()

    def close(self) -> None:
        self.reached.clear()
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    def pass_through(self, check: Callable[[], None] = lambda: None) -> None:
        self.reached.set()
        until = time.monotonic() + SOON
        while not self._open.wait(0.02):
            check()
            assert time.monotonic() < until, "nobody opened the gate"


class GatedDriver(FakeDriver):
    """A fake driver that can be held up, that remembers what it was asked for, and that knows the
    guests that it has made: all others are not there.

    :ivar gate: in front of the end of every spawn, power_off, pause and suspend.
    :ivar calls: pairs of the method and the instance's uuid.
    :ivar fail: what a method raises, by its name.
    """

    def __init__(self, conf: cfg.ConfigOpts, images: MemoryImages) -> None:
        super().__init__(conf, images)  # type: ignore[arg-type]
        self.gate = Gate()
        self.calls: list[tuple[str, str]] = []
        self.requests: list[SpawnRequest] = []
        self.guests: set[str] = set()
        self.fail: dict[str, Exception] = {}

    def spawn(
        self,
        context: RequestContext,
        instance: InstanceLike,
        request: SpawnRequest,
        check: Callable[[], None],
    ) -> None:
        self._enter("spawn", instance)
        self.requests.append(request)
        self.gate.pass_through(check)
        super().spawn(context, instance, request, check)
        self.guests.add(instance.uuid)

    def destroy(self, instance: InstanceLike) -> None:
        self._enter("destroy", instance)
        super().destroy(instance)
        self.guests.discard(instance.uuid)

    def power_off(self, instance: InstanceLike, timeout: float) -> None:
        self._enter(f"power_off {timeout:g}", instance)
        self.gate.pass_through()
        super().power_off(instance, timeout)

    def power_on(self, instance: InstanceLike) -> None:
        self._enter("power_on", instance)
        super().power_on(instance)

    def pause(self, instance: InstanceLike) -> None:
        self._enter("pause", instance)
        self.gate.pass_through()
        super().pause(instance)

    def suspend(self, instance: InstanceLike) -> None:
        self._enter("suspend", instance)
        self.gate.pass_through()
        super().suspend(instance)

    def reboot(self, instance: InstanceLike, hard: bool, timeout: float) -> None:
        self._enter("reboot hard" if hard else f"reboot soft {timeout:g}", instance)
        super().reboot(instance, hard, timeout)

    def did(self, instance: Instance) -> list[str]:
        return [method for method, uuid in self.calls if uuid == instance.uuid]

    def _enter(self, method: str, instance: InstanceLike) -> None:
        self.calls.append((method, instance.uuid))
        error = self.fail.get(method.split()[0])
        if error is not None:
            raise error


class Cloud:
    """Both ends.

    :ivar snapshots: the compute API of snapshots. :ivar life: of all the rest.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        transport: oslo_messaging.Transport,
        context: RequestContext,
    ) -> None:
        self.conf = conf
        self.database = database
        self.context = context
        self.images = MemoryImages()
        self._transport = transport
        compute_rpcapi = rpcapi.ComputeAPI(conf, transport)
        self.volumes = MemoryVolumes()
        self.snapshots = api.API(conf, self.images, compute_rpcapi, self.volumes)
        self.life = LifecycleAPI(conf, self.images, compute_rpcapi)
        self.image_id = self.add_image()
        self.driver = GatedDriver(conf, self.images)
        self.build_service()

    def build_service(self) -> None:
        """A compute host, as a new process would make it; the driver stays."""
        locks = InstanceLocks()
        self.manager = ComputeManager(
            self.conf, self.database, self.images, self.driver, locks=locks
        )
        self.lifecycle = LifecycleManager(self.conf, self.database, self.images, self.driver, locks)
        self.volume_manager = VolumeManager(
            self.conf, self.database, self.images, self.volumes, self.driver
        )
        self.service = ComputeService(
            self.conf,
            self._transport,
            self.manager,
            self.lifecycle,
            Heartbeat(self.conf, self.database, self.driver),
            self.volume_manager,
        )

    def start(self) -> None:
        self.service.start()

    def stop(self) -> int:
        self.driver.gate.open()
        self.images.go_on.set()
        return self.service.stop()

    # -- doing -----------------------------------------------------------------------------

    def add_image(self, **values: Any) -> str:
        record = self.images.create(self.context, {"name": "cirros"})
        given = {
            "status": "active",
            "size": 1000,
            "min_ram": 0,
            "min_disk": 0,
            "disk_format": "qcow2",
            "container_format": "bare",
            **values,
        }
        self.images.records[record["id"]].update(given)
        return str(record["id"])

    def request(self, **values: Any) -> ServerRequest:
        given: dict[str, Any] = {
            "name": "web",
            "image_ref": self.image_id,
            "flavor": SMALL,
            "network": "none",
            **values,
        }
        return ServerRequest(**given)

    def create(self, **values: Any) -> Instance:
        """A server that is asked for."""
        (instance,), _ = self.life.create(self.new_context(), self.request(**values))
        return instance

    def running(self, **values: Any) -> Instance:
        """A server that runs."""
        return self.free(self.create(**values))

    def new_context(self) -> RequestContext:
        """A request of its own of the same user."""
        values = self.context.to_dict()
        del values["request_id"]
        made = RequestContext.from_dict(values, overwrite=False)
        made.db = self.database
        return made

    def write(self, instance: Instance, **values: object) -> None:
        """Set columns behind everybody's back."""
        with self.database.writer() as session:
            assert queries.instance_update(session, instance.uuid, values)

    # -- looking ---------------------------------------------------------------------------

    def now(self, instance: Instance) -> Instance:
        return Instance.get_by_uuid(self.context, instance.uuid)

    def free(self, instance: Instance) -> Instance:
        """The instance, when nothing is being done to it any more."""
        wait_until(lambda: self.now(instance).task_state is None, "task_state None")
        return self.now(instance)

    def gone(self, instance: Instance) -> None:
        """Until it is."""

        def is_gone() -> bool:
            rows = [each.uuid for each in self.all_instances()]
            return instance.uuid not in rows

        wait_until(is_gone, "the end of the instance")

    def all_instances(self) -> list[Instance]:
        return self.snapshots.get_all(self.context, InstanceFilters())

    def state(self, instance: Instance) -> tuple[str, str | None, str]:
        now = self.now(instance)
        return now.vm_state, now.task_state, power_state.NAMES[now.power_state]

    def fault(self, instance: Instance) -> InstanceFault | None:
        uuids = [instance.uuid]
        return InstanceFault.latest_by_instance_uuids(self.context, uuids).get(instance.uuid)

    def action(self, instance: Instance, name: str) -> InstanceAction:
        """The newest action of that name, when it has ended."""

        def newest() -> InstanceAction:
            actions = InstanceAction.get_by_instance_uuid(self.context, instance.uuid)
            return next(action for action in actions if action.action == name)

        wait_until(lambda: newest().finish_time is not None, f"the end of {name}")
        return newest()

    def steps(self, action: InstanceAction) -> list[tuple[str, str | None, str | None]]:
        return [(step.event, step.host, step.result) for step in action.events(self.context)]


@pytest.fixture(name="cloud")
def compute_host(
    conf: cfg.ConfigOpts, database: Database, context: RequestContext
) -> Iterator[Cloud]:
    """A compute host that listens, with messages that stay in this process."""
    transport = rpc.get_transport(conf)
    made = Cloud(conf, database, transport, context)
    made.start()
    yield made
    assert made.stop() == 0
    transport.cleanup()
