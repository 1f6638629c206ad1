# SPDX-License-Identifier: Apache-2.0
"""A request beside the point in time."""

import threading

import pytest

from nova_snap.virt.libvirt.snapshot.meanwhile import Meanwhile


class Unwanted(Exception):
    """Whoever waits is told to stop."""


def nothing():
    pass


def test_it_runs_beside_and_is_waited_for():
    go_on, ran = threading.Event(), []

    def function():
        assert go_on.wait(10)
        ran.append(threading.current_thread().name)

    beside = Meanwhile(function, "beside")
    assert not ran
    go_on.set()
    beside.wait(nothing)
    assert ran == ["beside"]


@pytest.mark.parametrize("error", [KeyError("no"), TimeoutError("its own")])
def test_its_error_is_that_of_who_waits(error):
    def function():
        raise error

    with pytest.raises(type(error)) as found:
        Meanwhile(function, "beside").wait(nothing)
    assert found.value is error


def test_who_waits_can_be_told_to_stop():
    stall = threading.Event()

    def unwanted():
        raise Unwanted

    beside = Meanwhile(lambda: stall.wait(10), "beside")
    try:
        with pytest.raises(Unwanted):
            beside.wait(unwanted)
    finally:
        stall.set()
