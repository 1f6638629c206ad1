# SPDX-License-Identifier: Apache-2.0
"""Connections: one for each call, and one attempt at a time where there is none."""

import threading
import time
from concurrent import futures

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import connections
from nova_snap.virt.libvirt.connections import Connections
from tests.unit.virt.starved import without_threads


class Connection:
    def __init__(self):
        self.alive = True
        self.closed = threading.Event()

    def isAlive(self):  # noqa: N802 - libvirt's name
        return self.alive

    def close(self):
        self.closed.set()


class Libvirt:
    """Can be away, or hang. :ivar attempts: to reach it, by when they were."""

    def __init__(self):
        self.attempts = []
        self.away = False
        self.answers = threading.Event()
        self.answers.set()
        self.patience = 5.0

    def open(self):
        self.attempts.append(time.monotonic())
        self.answers.wait(10)
        if self.away:
            raise OSError("connection refused")
        return Connection()


@pytest.fixture
def libvirt():
    made = Libvirt()
    yield made
    made.answers.set()


@pytest.fixture
def pool(libvirt):
    return Connections(libvirt.open, "qemu:///system", lambda: libvirt.patience, shared=False)


def lose(pool, libvirt):
    """There was a connection, and now libvirt is away."""
    connection = pool.take()
    libvirt.away = True
    connection.alive = False
    pool.give_back(connection, lost=True)


def test_each_has_its_own(pool, libvirt):
    first, second = pool.take(), pool.take()
    assert first is not second
    pool.give_back(first, lost=False)
    assert pool.take() is first
    assert len(libvirt.attempts) == 2


def test_a_shared_one(libvirt):
    pool = Connections(libvirt.open, "test:///default", lambda: 5, shared=True)
    first = pool.take()
    assert pool.take() is first
    pool.give_back(first, lost=True)
    assert pool.take() is not first


def test_few_are_kept(pool):
    taken = [pool.take() for _ in range(connections.MAX_IDLE + 1)]
    for each in taken:
        pool.give_back(each, lost=False)
    assert taken[-1].closed.wait(10)
    assert not any(each.closed.is_set() for each in taken[:-1])
    pool.close()
    assert all(each.closed.wait(10) for each in taken)


def test_no_thread_to_close_one(pool, monkeypatch):
    """The call that it was for has been answered. It is kept, and closed when there is a thread."""
    taken = [pool.take() for _ in range(connections.MAX_IDLE + 1)]
    with without_threads(monkeypatch):
        for each in taken:
            pool.give_back(each, lost=False)
        pool.close()
    assert not any(each.closed.is_set() for each in taken)
    again = [pool.take() for _ in taken]
    assert set(again) == set(taken)
    for each in again:
        pool.give_back(each, lost=False)
    assert again[-1].closed.wait(10)


def test_one_that_died_while_nobody_had_it(pool):
    first = pool.take()
    pool.give_back(first, lost=False)
    first.alive = False
    assert pool.take() is not first


def test_never_there(pool, libvirt):
    """A service that is started without libvirt says so at once."""
    libvirt.away = True
    with pytest.raises(exception.HypervisorUnavailable, match="connection refused"):
        pool.take()
    assert len(libvirt.attempts) == 1


def test_away_for_a_moment(pool, libvirt):
    """Whoever needs a connection waits, and pauses between attempts become longer."""
    lose(pool, libvirt)
    libvirt.attempts.clear()
    with futures.ThreadPoolExecutor() as others:
        taken = [others.submit(pool.take) for _ in range(3)]
        deadline = time.monotonic() + 30
        while len(libvirt.attempts) < 4 and time.monotonic() < deadline:
            time.sleep(0.01)
        # Who waits has to be let go before this block can end, whatever is found.
        tried = len(libvirt.attempts)
        assert not any(each.done() for each in taken)
        libvirt.away = False
        assert len({id(each.result(10)) for each in taken}) == 3
    assert tried >= 4
    first, second, third, fourth = libvirt.attempts[:4]
    assert second - first < third - second < fourth - third


def test_away_for_long(pool, libvirt):
    """Nobody waits for what will not be: an answer at once, without asking each time."""
    lose(pool, libvirt)
    libvirt.patience = 0.2
    began = time.monotonic()
    with pytest.raises(exception.HypervisorUnavailable, match="connection refused"):
        pool.take()
    assert 0.05 < time.monotonic() - began < 2
    libvirt.attempts.clear()
    began = time.monotonic()
    for _ in range(100):
        with pytest.raises(exception.HypervisorUnavailable):
            pool.take()
    assert time.monotonic() - began < 1
    assert len(libvirt.attempts) <= 2


def test_back_after_long(pool, libvirt):
    lose(pool, libvirt)
    libvirt.patience = 0.1
    with pytest.raises(exception.HypervisorUnavailable):
        pool.take()
    libvirt.away = False
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            assert pool.take().alive
            break
        except exception.HypervisorUnavailable:
            time.sleep(0.02)
    else:
        pytest.fail("libvirt is back and nobody notices")


def test_one_that_hangs(pool, libvirt):
    """One attempt waits for the answer, whoever asks, and a late answer is one."""
    libvirt.answers.clear()
    libvirt.patience = 0.1
    for _ in range(5):
        with pytest.raises(exception.HypervisorUnavailable, match="Waited 0 s for an answer"):
            pool.take()
    assert len(libvirt.attempts) == 1
    libvirt.answers.set()
    libvirt.patience = 5
    assert pool.take().alive
    assert len(libvirt.attempts) == 1


def test_no_thread_to_open_one_with(pool, libvirt, monkeypatch):
    """It is tried again when there is one, and not after the minutes that an attempt may hang."""
    lose(pool, libvirt)
    libvirt.away = False
    libvirt.patience = 0.0
    with (
        without_threads(monkeypatch),
        pytest.raises(exception.HypervisorUnavailable, match="can't start new thread"),
    ):
        pool.take()
    libvirt.patience = 5.0
    assert pool.take().isAlive()
    assert len(libvirt.attempts) == 2
