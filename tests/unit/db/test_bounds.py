# SPDX-License-Identifier: Apache-2.0
"""What is asked of a database's library, so that nobody waits for ever.

Servers that hang are in tests/integration/test_bounds.py.
"""

import socket
import time

import pytest
import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import exception as db_exception

from nova_snap.db import bounds
from nova_snap.db.session import Database


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        (
            "mysql+pymysql://u:p%40@h/d?charset=utf8mb4",
            {
                "charset": "utf8mb4",
                "connect_timeout": "7",
                "read_timeout": "7",
                "write_timeout": "7",
            },
        ),
        (
            "mysql+pymysql://u:p%40@h/d?read_timeout=90",
            {"read_timeout": "90", "connect_timeout": "7", "write_timeout": "7"},
        ),
        (
            "postgresql+psycopg2://u:p%40@h/d",
            {"connect_timeout": "7", "tcp_user_timeout": "7000"},
        ),
        ("sqlite:////tmp/x", {"timeout": "7"}),
    ],
)
def test_every_wait_is_limited_unless_the_url_says_otherwise(
    url: str, wanted: dict[str, str]
) -> None:
    limited = sa.make_url(bounds.limited(url, 7))
    assert dict(limited.query) == wanted
    assert limited.set(query={}) == sa.make_url(url).set(query={})
    assert bounds.limited(url, 0) == url


def test_a_database_that_says_nothing_is_not_waited_for(conf: cfg.ConfigOpts) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        url = f"mysql+pymysql://u:p@127.0.0.1:{port}/d"
        conf.set_override("connection", url, "database")
        conf.set_override("max_retries", 0, "database")
        conf.set_override("database_timeout", 1)
        began = time.monotonic()
        made = Database(conf)
        with pytest.raises(db_exception.DBConnectionError), made.reader() as session:
            session.execute(sa.text("SELECT 1"))
        assert time.monotonic() - began < 10


def test_a_lock_that_nobody_lets_go_is_not_waited_for(
    conf: cfg.ConfigOpts, database: Database
) -> None:
    conf.set_override("database_timeout", 1)
    other = Database(conf)
    began = time.monotonic()
    with (
        database.writer() as session,
        pytest.raises(sa.exc.OperationalError, match="locked"),
        other.writer(),
    ):
        session.execute(sa.text("SELECT 1"))
    assert 1 <= time.monotonic() - began < 10
    other.close()
