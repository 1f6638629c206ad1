# SPDX-License-Identifier: Apache-2.0
"""The pool that snapshots run in."""

import logging
import threading

import pytest

from nova_snap.compute.long_tasks import LongTasks

SOON = 10


def test_no_more_than_its_size_run_at_once() -> None:
    pool = LongTasks(2)
    go, running, lock = threading.Event(), [0, 0], threading.Lock()
    both = threading.Barrier(3)

    def task() -> None:
        with lock:
            running[0] += 1
            running[1] = max(running)
        both.wait(SOON)
        go.wait(SOON)
        with lock:
            running[0] -= 1

    for _ in range(4):
        pool.submit(task)
    both.wait(SOON)
    assert running == [2, 2]
    go.set()
    both.wait(SOON)
    assert pool.stop(SOON) == 0
    assert running == [0, 2]


def test_a_stop_drops_what_has_not_begun_and_counts_what_runs() -> None:
    pool = LongTasks(1)
    go, begun, late = threading.Event(), threading.Event(), threading.Event()

    def task() -> None:
        begun.set()
        go.wait(SOON)

    pool.submit(task)
    pool.submit(late.set)
    assert begun.wait(SOON)
    assert pool.stop(0.01) == 1
    go.set()
    assert pool.stop(SOON) == 0
    assert not late.is_set()
    with pytest.raises(RuntimeError):
        pool.submit(late.set)


def test_what_a_task_raises_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    pool = LongTasks(1)

    def task() -> None:
        raise ValueError("nobody caught me")

    with caplog.at_level(logging.ERROR):
        pool.submit(task)
        assert pool.stop(SOON) == 0
    assert "nobody caught me" in caplog.text
