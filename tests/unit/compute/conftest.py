# SPDX-License-Identifier: Apache-2.0
"""A compute manager with the fake driver and an image service that can be told to fail."""

from collections.abc import Iterator

import pytest
from oslo_config import cfg

from nova_snap.compute.manager import ComputeManager
from nova_snap.db.session import Database
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.unit.compute.manager_parts import SIZE, SOON


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


@pytest.fixture
def driver(conf: cfg.ConfigOpts, images: MemoryImages) -> FakeDriver:
    conf.set_override("snapshot_size", SIZE, "fake")
    return FakeDriver(conf, images)


@pytest.fixture
def manager(
    conf: cfg.ConfigOpts, database: Database, images: MemoryImages, driver: FakeDriver
) -> Iterator[ComputeManager]:
    made = ComputeManager(conf, database, images, driver)
    made.init_host()
    yield made
    images.go_on.set()
    assert made.stop(SOON) == 0
