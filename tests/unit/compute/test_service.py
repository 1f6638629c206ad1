# SPDX-License-Identifier: Apache-2.0
"""A compute service as a whole: what others see of it while it is stopped."""

import datetime
import threading
from collections.abc import Iterator

import pytest
from oslo_config import cfg

from nova_snap.compute import rpc
from nova_snap.compute.heartbeat import Heartbeat
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.reaper import Reaper
from nova_snap.compute.service import ComputeService
from nova_snap.compute.volume_manager import VolumeManager
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db import models
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.service import Service
from nova_snap.virt.fake import FakeDriver
from nova_snap.volume import cinder
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST
from tests.unit.compute.manager_parts import SOON, pending, reason, wait_until

LONG_AGO = datetime.datetime(2026, 1, 1)


class Parts:
    """A compute service that runs, and its manager."""

    def __init__(
        self, conf: cfg.ConfigOpts, database: Database, images: MemoryImages, driver: FakeDriver
    ) -> None:
        self.transport = rpc.get_transport(conf)
        locks = InstanceLocks()
        self.manager = ComputeManager(conf, database, images, driver, locks=locks)
        self.service = ComputeService(
            conf,
            self.transport,
            self.manager,
            LifecycleManager(conf, database, images, driver, locks),
            Heartbeat(conf, database, driver),
            VolumeManager(conf, database, images, cinder.API(conf), driver),
        )


@pytest.fixture
def parts(
    conf: cfg.ConfigOpts, database: Database, images: MemoryImages, driver: FakeDriver
) -> Iterator[Parts]:
    conf.set_override("report_interval", 1)
    made = Parts(conf, database, images, driver)
    made.service.start()
    yield made
    made.transport.cleanup()


def test_what_a_stop_lets_end_is_not_taken_for_lost(
    conf: cfg.ConfigOpts,
    database: Database,
    context: RequestContext,
    images: MemoryImages,
    parts: Parts,
) -> None:
    """It may take longer than snapshot_pending_timeout: others must see that it is worked on, and
    that no new work is wanted."""
    admin = get_admin_context(database)
    images.go_on.clear()
    instance, image_id = pending(context, images)
    parts.manager.snapshot_instance(context, instance.uuid, image_id)
    assert images.uploading.wait(SOON)
    left: list[int] = []
    stop = threading.Thread(target=lambda: left.append(parts.service.stop(600)))
    stop.start()
    wait_until(lambda: not parts.manager._reaping._thread.is_alive())
    with database.writer() as session:
        long_ago = {"last_seen_up": LONG_AGO, "updated_at": LONG_AGO, "created_at": LONG_AGO}
        session.query(models.Service).update(long_ago)
    before = Service.get_by_host(admin, HOST).report_count
    wait_until(lambda: Service.get_by_host(admin, HOST).report_count > before)
    assert not Service.get_by_host(admin, HOST).is_up(conf.service_down_time)
    Reaper(conf, images).end_lost(admin)
    assert Instance.get_by_uuid(context, instance.uuid).task_state is not None
    images.go_on.set()
    stop.join(SOON)
    assert left == [0]
    assert images.records[image_id]["status"] == "active"
    assert reason(context, instance) is None


def test_who_has_stopped_reports_no_more(database: Database, parts: Parts) -> None:
    assert parts.service.stop(SOON) == 0
    assert not parts.service._heartbeat._thread.is_alive()
