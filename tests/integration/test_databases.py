# SPDX-License-Identifier: Apache-2.0
"""What is tested on SQLite in tests/unit, on MariaDB and PostgreSQL."""

import uuid
from collections.abc import Iterator

import pytest
from oslo_config import cfg

from nova_snap.db import migration
from nova_snap.db.session import Database
from tests.unit.compute.test_api import (  # noqa: F401
    casts,
    compute,
    images,
    test_a_snapshot_is_recorded_claimed_and_asked_for,
    test_the_loser_of_a_race_leaves_nothing,
)
from tests.unit.db.test_migration import TestMigration  # noqa: F401
from tests.unit.objects.test_flavor import (  # noqa: F401
    TestFlavor,
    TestFlavorList,
    admin,
    flavors,
)
from tests.unit.objects.test_instance import (  # noqa: F401
    TestActions,
    TestBlockDevices,
    TestFaults,
    TestInstance,
    TestInstanceList,
)
from tests.unit.objects.test_instance_life import TestLife  # noqa: F401
from tests.unit.objects.test_service import TestComputeNode, TestService  # noqa: F401
from tests.unit.objects.test_snapshot_request import (  # noqa: F401
    TestSnapshotRequest,
    TestSnapshotTotal,
)


@pytest.fixture(params=["mariadb", "postgresql"])
def empty(request: pytest.FixtureRequest, conf: cfg.ConfigOpts) -> Iterator[Database]:
    """A new database on the server."""
    server = request.getfixturevalue(request.param)
    url = server.create_database(f"nova_snap_{uuid.uuid4().hex[:12]}")
    conf.set_override("connection", url, "database")
    made = Database(conf)
    yield made
    made.close()


@pytest.fixture
def database(empty: Database) -> Database:
    """The same with its tables."""
    migration.sync(empty)
    return empty
