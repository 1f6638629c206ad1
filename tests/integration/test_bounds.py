# SPDX-License-Identifier: Apache-2.0
"""Servers that take a connection and say nothing: whoever waits for them gives up in time.

What is slow is not the point here: the bounds are set small.
"""

import time
import uuid
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception as db_exception

from nova_snap import exception
from nova_snap.compute import rpc, rpcapi
from nova_snap.context import RequestContext
from nova_snap.db import migration
from nova_snap.db.session import Database
from tests.fixtures.proxy import BreakingProxy
from tests.fixtures.rabbitmq import RabbitMQ
from tests.fixtures.service import make_instance

BOUND = 1
SOON = 30


@pytest.fixture(params=["mariadb", "postgresql"])
def stalling(
    request: pytest.FixtureRequest, conf: cfg.ConfigOpts
) -> Iterator[tuple[Database, BreakingProxy]]:
    """A database, and what stands before it."""
    server = request.getfixturevalue(request.param)
    url = sa.make_url(server.create_database(f"nova_snap_{uuid.uuid4().hex[:12]}"))
    assert url.port is not None
    with BreakingProxy(url.port) as proxy:
        port = int(proxy.url.rpartition(":")[2])
        through = url.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
        conf.set_override("connection", through, "database")
        conf.set_override("database_timeout", BOUND)
        made = Database(conf)
        migration.sync(made)
        yield made, proxy
        made.close()


class TestDatabase:
    def test_one_that_stops_answering_is_left(
        self, stalling: tuple[Database, BreakingProxy]
    ) -> None:
        database, proxy = stalling

        def ask_one_that_hangs_meanwhile() -> None:
            with database.reader() as session:
                assert session.execute(sa.text("SELECT 1")).scalar() == 1
                proxy.stop_reading(after=0)
                session.execute(sa.text("SELECT 2"))

        began = time.monotonic()
        with pytest.raises(db_exception.DBConnectionError):
            ask_one_that_hangs_meanwhile()
        assert proxy.stalled.is_set()
        assert BOUND <= time.monotonic() - began < SOON
        with database.reader() as session:
            assert session.execute(sa.text("SELECT 3")).scalar() == 3

    def test_a_migration_is_waited_for(self, stalling: tuple[Database, BreakingProxy]) -> None:
        database, _ = stalling
        sleep = {"mysql": "SELECT SLEEP(2.5)", "postgresql": "SELECT pg_sleep(2.5)"}
        statement = sa.text(sleep[database.engine.dialect.name])
        with database.patient_engine() as engine, engine.connect() as connection:
            connection.execute(statement)
        with pytest.raises(db_exception.DBConnectionError), database.reader() as session:
            session.execute(statement)


class TestBroker:
    def test_a_message_to_one_that_hangs_is_given_up(
        self, conf: cfg.ConfigOpts, rabbitmq: RabbitMQ, context: RequestContext
    ) -> None:
        instance = make_instance(context)
        conf.set_override("transport_url", rabbitmq.url)
        conf.set_override("heartbeat_timeout_threshold", 2, "oslo_messaging_rabbit")
        conf.set_override("send_retries", 0, "rpc")
        transport = rpc.get_transport(conf)
        compute = rpcapi.ComputeAPI(conf, transport)
        with pytest.raises(exception.MessagingUnavailable, match="ever listened"):
            compute.snapshot_instance(context, instance, str(uuid.uuid4()))
        rabbitmq.service.pause()
        began = time.monotonic()
        try:
            with pytest.raises(exception.MessagingUnavailable):
                compute.snapshot_instance(context, instance, str(uuid.uuid4()))
            assert time.monotonic() - began < SOON
        finally:
            rabbitmq.service.resume()
            rpc.close(transport)
