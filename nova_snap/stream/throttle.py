# SPDX-License-Identifier: Apache-2.0
"""No more bytes a second than were allowed."""

import time
from collections.abc import Callable
from typing import Final

# The longest sleep between two looks at whether anybody still wants the bytes, in seconds.
SLICE: Final = 0.2

# A shorter sleep only costs turns of the loop, in seconds.
SHORTEST: Final = 0.001

# What may be spent at once after a pause, in seconds of the rate.
BURST: Final = 0.1


class Throttle:
    """A bucket of tokens that may go into debt: whoever spends waits until it is paid.

    So an amount larger than the bucket passes too, and the rate holds over any two calls.

    :param rate: bytes a second; 0 for no limit.
    :param clock: monotonic, in seconds.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if rate < 0:
            raise ValueError(f"a rate of {rate} bytes a second; it must be 0 or more")
        self.rate = rate
        self._clock = clock
        self._sleep = sleep
        self._tokens = 0.0
        self._at = clock()

    def take(self, amount: int, check: Callable[[], None]) -> None:
        """Spend ``amount`` bytes; returns once they are paid for.

        :param check: called several times a second meanwhile; what it raises ends the wait.
        """
        if not self.rate:
            return
        self._fill()
        self._tokens -= amount
        while self._tokens < 0:
            check()
            self._sleep(min(max(-self._tokens / self.rate, SHORTEST), SLICE))
            self._fill()

    def _fill(self) -> None:
        now = self._clock()
        earned = (now - self._at) * self.rate
        self._at = now
        self._tokens = min(self._tokens + earned, self.rate * BURST)
