# SPDX-License-Identifier: Apache-2.0
"""What is logged of a message that fails: it may have all of an instance in it."""

from collections.abc import Iterator
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.volume_manager import VolumeManager
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_instance
from tests.fixtures.volumes import MemoryVolumes

UUID = "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"
IMAGE = "9e3d1b8c-9a70-4c0e-9d3f-5d2f6a1e0001"
SECRETS = {
    "user_data": "cGFzc3dvcmQ=",
    "admin_pass": "sesame",
    "name": "x\n2026-11-29 INFO all is well",
}
SERIALISED = {"nova_object.name": "Instance", "nova_object.data": {**SECRETS, "uuid": UUID}}
NO_UUID = {"nova_object.name": "Instance", "nova_object.data": {**SECRETS, "uuid": "a\nb" * 60}}


class Broken(FakeDriver):
    """:ivar error: what comes of a freeze."""

    error: Exception = exception.AgentError(domain="d", operation="freeze", reason="none")

    def quiesce(self, instance: Any, image_id: str) -> None:
        raise self.error


@pytest.fixture
def driver(conf: cfg.ConfigOpts, images: MemoryImages) -> Broken:
    return Broken(conf, images)


@pytest.fixture
def lifecycle(
    conf: cfg.ConfigOpts, database: Database, images: MemoryImages, driver: Broken
) -> Iterator[LifecycleManager]:
    made = LifecycleManager(conf, database, images, driver, InstanceLocks())
    yield made
    made.stop(5)


@pytest.fixture
def volumes(
    conf: cfg.ConfigOpts, database: Database, images: MemoryImages, driver: Broken
) -> VolumeManager:
    conf.set_override("host", HOST)
    return VolumeManager(conf, database, images, MemoryVolumes(), driver)


def check(text: str, known: bool) -> None:
    """:param known: the message says of which instance it is."""
    assert (UUID in text) == known
    for secret in SECRETS.values():
        assert secret not in text
    assert "\nb" not in text
    assert len(text) < 4000


@pytest.mark.parametrize(("instance", "known"), [(SERIALISED, True), (NO_UUID, False)])
def test_console(
    lifecycle: LifecycleManager, context: RequestContext, caplog: pytest.LogCaptureFixture,
    instance: Any, known: bool,
) -> None:  # fmt: skip
    answer = lifecycle.get_console_output(context, instance, None)
    assert answer["reason"]
    assert caplog.records
    check(caplog.text, known)


@pytest.mark.parametrize("error", [
    Broken.error,
    exception.QuiesceUnsupported(domain="d", reason="it has no agent"),
    ValueError("unforeseen"),
], ids=lambda error: type(error).__name__)  # fmt: skip
def test_freeze(
    volumes: VolumeManager, driver: Broken, context: RequestContext,
    caplog: pytest.LogCaptureFixture, error: Exception,
) -> None:  # fmt: skip
    make_instance(context, uuid=UUID, task_state="image_snapshot_pending", snapshot_image_id=IMAGE)
    driver.error = error
    caplog.set_level("INFO")
    assert volumes.quiesce_instance(context, SERIALISED, IMAGE)["reason"]
    assert caplog.records
    check(caplog.text, known=True)


def test_freeze_of_nothing_that_can_be_read(
    volumes: VolumeManager, context: RequestContext, caplog: pytest.LogCaptureFixture
) -> None:
    answer = volumes.quiesce_instance(context, NO_UUID, IMAGE)
    assert answer["unsupported"] is False
    assert answer["reason"]
    assert caplog.records
    check(caplog.text, known=False)
