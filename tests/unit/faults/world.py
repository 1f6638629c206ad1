# SPDX-License-Identifier: Apache-2.0
"""The whole service in this process, as ``nova-snap-all`` has it, with an image service that does
wrong when told to. Requests go through the REST API."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import webob
from oslo_config import cfg

from nova_snap.cmd import parts
from nova_snap.compute import rpc, rpcapi
from nova_snap.compute.heartbeat import Heartbeat
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.service import ComputeService
from nova_snap.compute.volume_manager import VolumeManager
from nova_snap.db import migration
from nova_snap.db.session import Database
from nova_snap.image import glance
from nova_snap.objects.instance import Instance
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.driver import ComputeDriver, ImageService
from nova_snap.virt.fake import FakeDriver, snapshot_data
from nova_snap.volume import cinder
from tests.fixtures.service import PROJECT, USER, make_context, make_instance
from tests.stand_ins.glance import GlanceStandIn

TOKEN = f"{USER}:{PROJECT}"
SIZE = 100_000
SOON = 20.0
"""Seconds within which everything here ends; most of it does within two."""


class Outcome:
    """What became of a request for a snapshot, as the API tells it.

    :ivar message: the action's.
    :ivar seconds: from the request until the instance was free.
    :ivar image_id: of the image that was asked for.
    """

    def __init__(self, image_id: str, message: str | None, event: str, seconds: float) -> None:
        self.image_id = image_id
        self.message = message
        self.event = event
        self.seconds = seconds


class World:
    """A context manager.

    :param make_driver: of the compute host; the fake driver if it is not said.
    :ivar glance: the image service.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        make_driver: Callable[[cfg.ConfigOpts, ImageService], ComputeDriver] = FakeDriver,
    ) -> None:
        self.conf = conf
        self._make_driver = make_driver
        self.glance = GlanceStandIn()
        for name, value in {
            "host": f"compute-{id(self)}",
            "max_concurrent_snapshots": 20,
        }.items():
            conf.set_override(name, value)
        # The least that there is: a stall has to last as long as that.
        for name, value in {"timeout": 1, "num_retries": 1, "retry_interval": 0.01}.items():
            conf.set_override(name, value, "glance")
        conf.set_override("snapshot_size", SIZE, "fake")

    def __enter__(self) -> Self:
        self.glance.__enter__()
        self.conf.set_override("api_servers", [self.glance.url], "glance")
        self.database = Database(self.conf)
        migration.sync(self.database)
        self._transport = rpc.get_transport(self.conf)
        self._app = parts.api_application(self.conf, self.database, self._transport)
        self._service = self._compute_service()
        self._service.start()
        self.context = make_context(self.database)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.glance.heal()
        self.conf.set_override("graceful_shutdown_timeout", 2)
        left = self._service.stop()
        self._transport.cleanup()
        self.database.close()
        self.glance.__exit__(kind, error, trace)
        assert left == 0 or kind is not None, "a snapshot still runs"

    def _compute_service(self) -> ComputeService:
        conf, database = self.conf, self.database
        self.images = images = glance.API(conf)
        locks = InstanceLocks()
        self.driver = driver = self._make_driver(conf, images)
        compute_rpcapi = rpcapi.ComputeAPI(conf, self._transport)
        manager = ComputeManager(
            conf, database, images, driver, locks=locks, compute_rpcapi=compute_rpcapi
        )
        lifecycle = LifecycleManager(conf, database, images, driver, locks)
        volumes = VolumeManager(conf, database, images, cinder.API(conf), driver)
        heartbeat = Heartbeat(conf, database, driver)
        return ComputeService(conf, self._transport, manager, lifecycle, heartbeat, volumes)

    # -- requests --------------------------------------------------------------------------

    def request(self, method: str, path: str, body: object = None) -> webob.Response:
        """What the API answers."""
        headers = {"X-Auth-Token": TOKEN, "OpenStack-API-Version": "compute 2.79"}
        request = webob.Request.blank(f"/v2.1{path}", method=method, headers=headers)
        if body is not None:
            request.content_type = "application/json"
            request.body = json.dumps(body).encode()
        return request.get_response(self._app)

    def add_instance(self, **values: Any) -> Instance:
        return make_instance(self.context, host=self.conf.host, image_ref=None, **values)

    def ask(self, instance: Instance) -> webob.Response:
        """Ask for a snapshot."""
        body = {"createImage": {"name": "snap"}}
        return self.request("POST", f"/servers/{instance.uuid}/action", body)

    def snapshot(self, instance: Instance, within: float = SOON) -> Outcome:
        """Ask for one, and wait for its end."""
        began = time.monotonic()
        answer = self.ask(instance)
        assert answer.status_int == 202, answer.text
        return self.outcome(instance, answer.json["image_id"], began, within)

    def outcome(
        self, instance: Instance, image_id: str, began: float, within: float = SOON
    ) -> Outcome:
        """Wait for the end of the newest action."""
        path = f"/servers/{instance.uuid}/os-instance-actions"
        (newest, *_) = self.request("GET", path).json["instanceActions"]
        while True:
            # A user would ask the API, which costs more.
            ended = Instance.get_by_uuid(self.context, instance.uuid).task_state is None
            path = f"/servers/{instance.uuid}/os-instance-actions/{newest['request_id']}"
            found = self.request("GET", path).json["instanceAction"] if ended else {"events": []}
            results = [each["result"] for each in found["events"]]
            if results and None not in results:
                seconds = time.monotonic() - began
                return Outcome(image_id, found["message"], results[-1], seconds)
            assert time.monotonic() < began + within, f"it goes on: {found}"
            threading.Event().wait(0.03)

    # -- what must be so after it ----------------------------------------------------------

    def content(self, instance: Instance) -> bytes:
        """What an image of its disk has to hold."""
        return snapshot_data(instance.uuid, SIZE)

    def is_good(self, instance: Instance, outcome: Outcome) -> bool:
        """Whether the image service holds what the disk does, and says so."""
        record = self.glance.images.records.get(outcome.image_id)
        data = self.glance.images.data.get(outcome.image_id)
        return (
            record is not None and record["status"] == "active" and data == self.content(instance)
        )

    def status_of(self, outcome: Outcome) -> str | None:
        """What the image service says of the image; ``None`` where there is none."""
        record = self.glance.images.records.get(outcome.image_id)
        return None if record is None else str(record["status"])

    def assert_next_one_works(self, instance: Instance) -> None:
        """The service and the instance are as if nothing had happened."""
        self.glance.heal()
        outcome = self.snapshot(instance)
        assert (outcome.message, outcome.event) == (None, "Success")
        assert self.is_good(instance, outcome)

    def is_remembered(self, image_id: str) -> bool:
        """Whether the journal knows that the image is to be looked for later."""
        return SnapshotRequest.get(self.context, image_id) is not None
