# SPDX-License-Identifier: Apache-2.0
"""Reading on in a thread."""

import threading
from collections.abc import Iterator

import pytest

from nova_snap.stream import ahead
from nova_snap.stream.ahead import ReadAhead


def nothing() -> None:
    pass


def test_everything_comes_in_order_and_then_the_end() -> None:
    reader = ReadAhead(iter([b"%d" % n for n in range(100)]), 3)
    assert [reader.next(nothing) for _ in range(100)] == [b"%d" % n for n in range(100)]
    assert reader.next(nothing) is None
    assert reader.next(nothing) is None
    assert reader.close()


def test_no_more_is_read_than_was_allowed() -> None:
    taken = threading.Semaphore(0)
    count = 0

    def blocks() -> Iterator[bytes]:
        nonlocal count
        while True:
            count += 1
            taken.release()
            yield b"x"

    reader = ReadAhead(blocks(), 3)
    # Three wait in the queue, and one in the thread's hands.
    for _ in range(4):
        assert taken.acquire(timeout=10)
    assert not taken.acquire(timeout=0.1)
    reader.next(nothing)
    assert taken.acquire(timeout=10)
    assert reader.close()
    assert count == 5


def test_an_error_comes_where_it_happened() -> None:
    def blocks() -> Iterator[bytes]:
        yield b"a"
        raise ArithmeticError("b")

    reader = ReadAhead(blocks(), 3)
    assert reader.next(nothing) == b"a"
    with pytest.raises(ArithmeticError, match="b"):
        reader.next(nothing)
    assert reader.next(nothing) is None
    assert reader.close()


def test_the_iterator_is_closed_in_the_thread_that_used_it() -> None:
    threads = []

    def blocks() -> Iterator[bytes]:
        threads.append(threading.current_thread())
        try:
            while True:
                yield b"x"
        finally:
            threads.append(threading.current_thread())

    reader = ReadAhead(blocks(), 2)
    reader.next(nothing)
    assert reader.close()
    assert len(threads) == 2
    assert threads[0] is threads[1] is not threading.current_thread()


def test_who_waits_may_be_told_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ahead, "CLOSE_TIMEOUT", 0.1)
    go_on = threading.Event()

    def blocks() -> Iterator[bytes]:
        go_on.wait(30)
        yield b"late"

    def stop() -> None:
        raise InterruptedError

    reader = ReadAhead(blocks(), 2)
    with pytest.raises(InterruptedError):
        reader.next(stop)
    assert not reader.close(), "the thread cannot have ended"
    go_on.set()
    monkeypatch.setattr(ahead, "CLOSE_TIMEOUT", 10)
    assert reader.close()
