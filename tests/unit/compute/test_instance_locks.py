# SPDX-License-Identifier: Apache-2.0
"""One at a time for each instance."""

import threading

import pytest

from nova_snap import exception
from nova_snap.compute.instance_locks import InstanceLocks

SOON = 20


def test_the_second_waits_until_the_first_lets_go() -> None:
    locks = InstanceLocks()
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        waiting.set()
        with locks.hold("a", SOON):
            order.append("second")

    thread = threading.Thread(target=second)
    with locks.hold("a", SOON):
        thread.start()
        assert waiting.wait(SOON)
        with locks.hold("b", SOON):
            order.append("another instance")
        order.append("first")
    thread.join(SOON)
    assert order == ["another instance", "first", "second"]


def test_who_waits_too_long_is_told() -> None:
    locks = InstanceLocks()
    message = r"instance a did not end within 0\.01 s"
    with (
        locks.hold("a", SOON),
        pytest.raises(exception.InstanceBusy, match=message),
        locks.hold("a", 0.01),
    ):
        pass
    with locks.hold("a", 0.01):
        pass


def test_an_error_lets_go_and_nothing_is_kept() -> None:
    locks = InstanceLocks()
    with pytest.raises(RuntimeError), locks.hold("a", SOON):
        raise RuntimeError
    with locks.hold("a", 0.01):
        pass
    assert locks._entries == {}
