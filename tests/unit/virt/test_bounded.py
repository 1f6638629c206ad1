# SPDX-License-Identifier: Apache-2.0
"""Calls with a time bound."""

import threading

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import bounded
from tests.unit.virt.starved import without_threads


def test_answer():
    assert bounded.call(lambda: 42, 10, "the answer") == 42


def test_error():
    with pytest.raises(ZeroDivisionError):
        bounded.call(lambda: 1 // 0, 10, "the answer")


def test_late_answer():
    release = threading.Event()
    with pytest.raises(exception.WaitTimeout, match=r"Waited 0\.01 s for the answer"):
        bounded.call(release.wait, 0.01, "the answer")
    release.set()


def test_giving_up_makes_it_fail():
    """What comes back with an error after it was told to stop has taken too long."""
    stop = threading.Event()

    def work():
        stop.wait(10)
        raise ConnectionError("stopped")

    with pytest.raises(exception.WaitTimeout) as caught:
        bounded.call(work, 0.01, "the answer", give_up=stop.set, grace=10)
    assert isinstance(caught.value.__cause__, ConnectionError)


def test_answer_that_came_just_before_giving_up():
    stop = threading.Event()
    assert bounded.call(lambda: stop.wait(10), 0.01, "it", give_up=stop.set, grace=10) is True


def test_giving_up_fails_too():
    release = threading.Event()

    def give_up():
        raise ConnectionError("cannot stop it")

    with pytest.raises(exception.WaitTimeout):
        bounded.call(release.wait, 0.01, "it", give_up=give_up, grace=0.01)
    release.set()


def test_no_thread_for_it(monkeypatch):
    calls = []
    with (
        without_threads(monkeypatch),
        pytest.raises(exception.HostStarved, match=r"no thread for the answer: .*pids\.max"),
    ):
        bounded.call(lambda: calls.append(1), 10, "the answer")
    assert calls == []
