# SPDX-License-Identifier: Apache-2.0
"""How long a database may keep a process waiting.

A server that hangs keeps its connections open and answers nothing. No client library gives up on
that unless it is told to.
"""

import contextlib
import select
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import sqlalchemy as sa

_PATIENT = threading.local()


def limited(url: str, seconds: int) -> str:
    """The URL with what bounds each wait for the server.

    What the URL says of it already stays.

    :param seconds: for a connection, and for the answer to each statement; 0 for no bound.
    """
    made = sa.make_url(url)
    if not seconds:
        return url
    backend, driver = made.get_backend_name(), made.get_driver_name()
    wanted: Mapping[str, int] = {}
    if driver == "pymysql":
        wanted = dict.fromkeys(("connect_timeout", "read_timeout", "write_timeout"), seconds)
    elif driver == "psycopg2":
        # For a host that is gone; one that hangs is left by the callback.
        wanted = {"connect_timeout": seconds, "tcp_user_timeout": 1000 * seconds}
        _limit_psycopg2(seconds)
    elif backend == "sqlite":
        wanted = {"timeout": seconds}
    new = {name: str(value) for name, value in wanted.items() if name not in made.query}
    return made.update_query_dict(new).render_as_string(hide_password=False)


@contextlib.contextmanager
def patience() -> Iterator[None]:
    """Let what this thread asks PostgreSQL for meanwhile take as long as it takes."""
    _PATIENT.now = True
    try:
        yield
    finally:
        _PATIENT.now = False


def _limit_psycopg2(seconds: float) -> None:
    """Bound each wait of psycopg2: it closes a connection whose wait raises.

    The library has one such hook for the whole process.
    """
    import psycopg2  # type: ignore[import-untyped]
    import psycopg2.extensions as pg  # type: ignore[import-untyped]

    wanted: Final = {pg.POLL_READ: select.POLLIN, pg.POLL_WRITE: select.POLLOUT}

    def wait(connection: Any) -> None:
        deadline = None if getattr(_PATIENT, "now", False) else time.monotonic() + seconds
        while (state := connection.poll()) != pg.POLL_OK:
            waiting = select.poll()
            waiting.register(connection.fileno(), wanted[state])
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            if not waiting.poll(None if left is None else 1000 * left):
                raise psycopg2.OperationalError(f"the server does not answer within {seconds:g} s")

    pg.set_wait_callback(wait)
