# SPDX-License-Identifier: Apache-2.0
"""The pool that snapshots run in, and who comes next."""

import logging
import threading
import time

import pytest

from nova_snap.compute.fair_queue import FairQueue, QueueClosed, Ticket
from tests.unit.compute.manager_parts import no_more_threads

SOON = 10


class Work:
    """Tasks that run until they are told to end; remembers in which order they began."""

    def __init__(self, size: int) -> None:
        self.queue = FairQueue(size, "work")
        self.begun: list[str] = []
        self._ends: dict[str, threading.Event] = {}
        self._lock = threading.Condition()

    def submit(self, key: str) -> int:
        """:param key: its first letter is the group."""
        self._ends[key] = threading.Event()
        return self.queue.submit(Ticket(key, key[0], lambda: self._task(key)))

    def end(self, key: str) -> None:
        self._ends[key].set()

    def wait_begun(self, count: int) -> list[str]:
        until = time.monotonic() + SOON
        with self._lock:
            while len(self.begun) < count:
                assert self._lock.wait(until - time.monotonic()), f"only {self.begun} have begun"
            return list(self.begun)

    def end_all(self) -> None:
        for event in self._ends.values():
            event.set()

    def _task(self, key: str) -> None:
        with self._lock:
            self.begun.append(key)
            self._lock.notify_all()
        assert self._ends[key].wait(SOON)


def test_no_more_than_its_size_run_at_once() -> None:
    work = Work(2)
    assert [work.submit(key) for key in ("a1", "a2", "a3", "a4")] == [0, 0, 1, 2]
    assert sorted(work.wait_begun(2)) == ["a1", "a2"]
    assert work.queue.wait(0.05) == 2
    assert work.queue.waiting() == ["a3", "a4"]
    work.end("a1")
    assert work.wait_begun(3)[2] == "a3"
    work.end_all()
    assert work.queue.wait(SOON) == 0
    assert work.begun[3] == "a4"


def test_one_group_does_not_starve_the_others() -> None:
    work = Work(2)
    for number in range(20):
        work.submit(f"a{number:02}")
    work.wait_begun(2)
    assert work.submit("b1") == 1
    assert work.submit("c1") == 2
    assert work.submit("b2") == 3
    work.end("a00")
    assert work.wait_begun(3)[2] == "b1"
    work.end("a01")
    assert work.wait_begun(4)[3] == "c1"
    work.end("b1")
    # b and a have none running; a's turn was longer ago.
    assert work.wait_begun(5)[4] == "a02"
    work.end("a02")
    assert work.wait_begun(6)[5] == "b2"
    work.end_all()
    assert work.queue.wait(SOON) == 0
    assert len(work.begun) == 23


def test_the_order_that_is_told_is_the_order_that_comes() -> None:
    work = Work(1)
    for key in ("a1", "a2", "a3", "b1", "c1", "b2"):
        work.submit(key)
    work.wait_begun(1)
    told = work.queue.waiting()
    assert told == ["b1", "c1", "a2", "b2", "a3"]
    for count, key in enumerate(["a1", *told[:-1]], start=2):
        work.end(str(key))
        work.wait_begun(count)
    assert work.begun[1:] == told
    work.end_all()
    assert work.queue.wait(SOON) == 0


def test_what_waits_can_be_taken_out() -> None:
    work = Work(1)
    for key in ("a1", "a2", "b1"):
        work.submit(key)
    work.wait_begun(1)
    assert work.queue.remove("b1")
    assert not work.queue.remove("b1")
    assert not work.queue.remove("a1")
    work.end_all()
    assert work.queue.wait(SOON) == 0
    assert work.begun == ["a1", "a2"]


def test_a_closed_queue_hands_back_what_has_not_begun() -> None:
    work = Work(1)
    for key in ("a1", "a2", "b1"):
        work.submit(key)
    work.wait_begun(1)
    assert work.queue.close() == ["b1", "a2"]
    assert work.queue.close() == []
    assert work.queue.wait(0.01) == 1
    with pytest.raises(QueueClosed, match="closed"):
        work.submit("a3")
    work.end_all()
    assert work.queue.wait(SOON) == 0
    assert work.begun == ["a1"]


def test_what_a_task_raises_is_logged_and_its_place_is_free(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queue, done = FairQueue(1, "work"), threading.Event()

    def task() -> None:
        raise ValueError("nobody caught me")

    with caplog.at_level(logging.ERROR):
        queue.submit(Ticket(1, "a", task))
        queue.submit(Ticket(2, "a", done.set))
        assert done.wait(SOON)
        assert queue.wait(SOON) == 0
    assert "nobody caught me" in caplog.text


def test_what_hangs_has_no_place_any_more() -> None:
    work = Work(1)
    work.submit("a1")
    work.wait_begun(1)
    work.submit("a2")
    assert work.queue.give_up(60) == []
    time.sleep(0.01)
    assert work.queue.give_up(0.001) == ["a1"]
    assert work.wait_begun(2) == ["a1", "a2"]
    # It comes back after all, and frees nothing that it does not have.
    work.end("a1")
    work.submit("b1")
    assert work.queue.waiting() == ["b1"]
    assert work.queue.wait(0.05) == 1
    work.end_all()
    assert work.wait_begun(3)[2] == "b1"


class TestWithoutThreads:
    """The system has no more of them, for a while."""

    def test_what_cannot_begin_waits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        work = Work(1)
        with no_more_threads(monkeypatch, "work"):
            assert work.submit("a1") == 1
            assert work.submit("b1") == 2
        assert work.queue.waiting() == ["a1", "b1"]
        assert work.queue.wait(0) == 0
        work.queue.fill()
        assert work.wait_begun(1) == ["a1"]
        work.end_all()
        assert work.wait_begun(2)[1] == "b1"
        assert work.queue.wait(SOON) == 0

    def test_who_ends_then_leaves_a_free_place(self, monkeypatch: pytest.MonkeyPatch) -> None:
        work = Work(1)
        for key in ("a1", "a2", "a3"):
            work.submit(key)
        work.wait_begun(1)
        with no_more_threads(monkeypatch, "work"):
            work.end("a1")
            assert work.queue.wait(SOON) == 0
        assert work.queue.waiting() == ["a2", "a3"]
        work.submit("b1")
        assert work.wait_begun(2)[1] == "b1", "a had its turn last"
        work.end_all()
        assert work.queue.wait(SOON) == 0
        assert work.begun == ["a1", "b1", "a2", "a3"]
