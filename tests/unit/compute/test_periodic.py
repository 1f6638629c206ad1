# SPDX-License-Identifier: Apache-2.0
"""What is looked after from time to time."""

import threading

import pytest

from nova_snap import exception
from nova_snap.compute.periodic import Periodic
from nova_snap.context import RequestContext
from nova_snap.db.session import Database

SOON = 20


def test_a_task_that_fails_keeps_no_other_from_being_done(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    rounds = threading.Semaphore(0)
    ids: list[str | None] = []

    def foreseen(context: RequestContext) -> None:
        raise exception.InstanceNotFound(instance_id="i")

    def unforeseen(context: RequestContext) -> None:
        raise RuntimeError("a mistake of ours")

    def fine(context: RequestContext) -> None:
        assert context.is_admin
        ids.append(context.request_id)
        rounds.release()

    tasks = {"find it": foreseen, "do it right": unforeseen, "do it": fine}
    periodic = Periodic(database, 0.01, tasks)
    periodic.start()
    for _ in range(3):
        assert rounds.acquire(timeout=SOON)
    periodic.stop()
    assert len(set(ids)) == len(ids) >= 3
    assert "To find it failed, and is tried again later: Instance i could not" in caplog.text
    assert "a mistake of ours" in caplog.text


def test_a_stop_waits_for_no_round(database: Database) -> None:
    done = threading.Event()
    periodic = Periodic(database, 3600, {"do it": lambda _context: done.set()})
    periodic.start()
    assert done.wait(SOON)
    periodic.stop()
    assert not periodic._thread.is_alive()
