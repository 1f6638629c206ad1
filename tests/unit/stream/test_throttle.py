# SPDX-License-Identifier: Apache-2.0
"""The speed limit, on a clock that moves only when somebody sleeps."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nova_snap.stream.throttle import BURST, SHORTEST, SLICE, Throttle


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def nothing() -> None:
    pass


@given(
    st.floats(1, 1e10),
    st.lists(st.tuples(st.integers(0, 10**8), st.floats(0, 10)), min_size=1, max_size=20),
)
def test_no_stretch_of_time_has_more_than_its_share(
    rate: float, steps: list[tuple[int, float]]
) -> None:
    clock = Clock()
    throttle = Throttle(rate, clock=clock, sleep=clock.sleep)
    # A day is enough; no test waits for it.
    steps = [(min(amount, int(rate * 10)), idle) for amount, idle in steps]
    paid = [(clock.now, 0)]
    for amount, idle in steps:
        clock.now += idle
        throttle.take(amount, nothing)
        paid.append((clock.now, paid[-1][1] + amount))
    for i, (begin, before) in enumerate(paid):
        for end, after in paid[i + 1 :]:
            assert after - before <= rate * (end - begin + BURST) * (1 + 1e-6)


def test_the_rate_is_reached() -> None:
    clock = Clock()
    throttle = Throttle(1_000_000, clock=clock, sleep=clock.sleep)
    for _ in range(100):
        throttle.take(1 << 20, nothing)
    assert 104.8 <= clock.now - 1000 <= 104.8 * 1.002


def test_a_pause_is_not_saved_up() -> None:
    clock = Clock()
    throttle = Throttle(1000, clock=clock, sleep=clock.sleep)
    clock.now += 3600
    throttle.take(100, nothing)
    assert clock.sleeps == []
    throttle.take(1000, nothing)
    assert sum(clock.sleeps) == pytest.approx(1, rel=0.01)


def test_a_long_wait_is_interrupted() -> None:
    clock = Clock()
    throttle = Throttle(1, clock=clock, sleep=clock.sleep)
    looks: list[float] = []

    def check() -> None:
        looks.append(clock.now)
        if len(looks) == 10:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        throttle.take(10**9, check)
    assert all(SHORTEST <= seconds <= SLICE for seconds in clock.sleeps)
    assert clock.now - 1000 < 10 * SLICE


def test_no_limit_takes_no_time() -> None:
    clock = Clock()
    throttle = Throttle(0, clock=clock, sleep=clock.sleep)
    throttle.take(10**15, nothing)
    assert clock.sleeps == []


def test_a_limit_below_nothing() -> None:
    with pytest.raises(ValueError, match="-1 bytes a second"):
        Throttle(-1)
