# SPDX-License-Identifier: Apache-2.0
"""What is tested on SQLite in tests/unit, on MariaDB and PostgreSQL."""

import threading
import time
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception as db_exception

from nova_snap.context import RequestContext
from nova_snap.db import migration, models
from nova_snap.db.session import Database
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from tests.fixtures.service import make_instance
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

Row = models.InstanceAction | models.InstanceActionEvent


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


# By dialect: which connection waits to write an action, and how it is cut off.
CUT_OFF = {
    "mysql": (
        "SELECT id FROM information_schema.processlist"
        " WHERE info LIKE 'UPDATE instance_actions S%'",
        "KILL CONNECTION :id",
    ),
    "postgresql": (
        "SELECT pid FROM pg_stat_activity WHERE query LIKE 'UPDATE instance_actions S%'"
        " AND wait_event_type = 'Lock'",
        "SELECT pg_terminate_backend(:id)",
    ),
}


class TestTransactionThatIsEnded:
    """It writes two rows, of which another transaction has the second."""

    def test_one_whose_connection_is_lost_is_done_again(
        self, database: Database, context: RequestContext
    ) -> None:
        instance = make_instance(context)
        action = InstanceAction.start(context, instance.uuid, "createImage")
        event = InstanceActionEvent.begin(context, action, "snapshot", "compute-1")
        writer = threading.Thread(target=event.succeed, args=(context, "done"))
        find, cut_off = (sa.text(each) for each in CUT_OFF[database.engine.dialect.name])
        with database.engine.connect() as other, database.engine.connect() as third:
            self.touch(other, models.InstanceAction, action.id)
            writer.start()
            until = time.monotonic() + 30
            while not (found := third.execute(find).scalars().all()):
                assert time.monotonic() < until, "nobody waits"
                third.rollback()
                time.sleep(0.02)
            (connection,) = found
            third.execute(cut_off, {"id": connection})
            other.rollback()
        writer.join(60)
        assert not writer.is_alive()
        (step,) = action.events(context)
        assert (step.result, step.details) == ("Success", "done")

    def test_the_loser_of_a_deadlock_writes_again(
        self, database: Database, context: RequestContext
    ) -> None:
        # PostgreSQL has each look once, after a second: on a busy machine that may be before there
        # is one, and then it ends the other.
        assert any(self.is_lost_by_the_writer(database, context, number) for number in range(5))

    def is_lost_by_the_writer(
        self, database: Database, context: RequestContext, number: int
    ) -> bool:
        instance = make_instance(context, name=f"instance-{number:08x}")
        action = InstanceAction.start(context, instance.uuid, "createImage")
        event = InstanceActionEvent.begin(context, action, "snapshot", "compute-1")
        writer = threading.Thread(target=event.succeed, args=(context, "done"))
        with database.engine.connect() as other:
            # MariaDB ends the transaction that has changed less.
            fault = {"instance_uuid": instance.uuid, "code": 500, "message": "x"}
            other.execute(sa.insert(models.InstanceFault), [fault] * 50)
            self.touch(other, models.InstanceAction, action.id)
            writer.start()
            self.wait_locked(database, event.id)
            lost = True
            try:
                # This closes the circle; that it returns says that the other one had to let go.
                self.touch(other, models.InstanceActionEvent, event.id)
            except db_exception.DBDeadlock:
                lost = False
            other.rollback()
        writer.join(60)
        assert not writer.is_alive()
        (found,) = action.events(context)
        assert (found.result, found.details) == ("Success", "done")
        return lost

    @staticmethod
    def touch(connection: sa.Connection, table: type[Row], row: int) -> None:
        connection.execute(sa.update(table).where(table.id == row).values(updated_at=None))

    @staticmethod
    def wait_locked(database: Database, row: int) -> None:
        """Until somebody else has the event's row."""
        table = models.InstanceActionEvent
        query = sa.select(table.id).where(table.id == row).with_for_update(nowait=True)
        until = time.monotonic() + 30
        while True:
            assert time.monotonic() < until, "nobody has locked the row"
            try:
                with database.engine.connect() as third:
                    third.execute(query)
                    third.rollback()
            except (db_exception.DBError, sa.exc.DBAPIError):
                return
            time.sleep(0.02)


def test_more_who_want_a_connection_than_there_are(empty: Database, conf: cfg.ConfigOpts) -> None:
    """It is told as a database that is away, which whoever asks knows what to do about."""
    for name, value in {"max_pool_size": 1, "max_overflow": 0, "pool_timeout": 1}.items():
        conf.set_override(name, value, "database")
    tight = Database(conf)
    one = sa.text("SELECT 1")
    try:
        with tight.reader() as first:
            first.execute(one)
            for session in (tight.reader, tight.writer):
                with pytest.raises(db_exception.DBConnectionError), session() as second:
                    second.execute(one)
        with tight.writer() as third:
            assert third.execute(one).scalar() == 1
    finally:
        tight.close()
