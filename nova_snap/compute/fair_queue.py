# SPDX-License-Identifier: Apache-2.0
"""A bounded pool whose next free place goes to whoever has the fewest.

Groups (here: projects) wait beside each other, not behind each other: one that asks for a hundred
things at once delays another's first by no more than what runs at that moment.
"""

import dataclasses
import itertools
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Hashable
from typing import Final

from oslo_log import log

LOG = log.getLogger(__name__)


class QueueClosed(Exception):
    """Nothing is taken any more."""


@dataclasses.dataclass(frozen=True, eq=False)
class Ticket:
    """A task that was handed in.

    :ivar key: what it is found by, unique among those that wait.
    """

    key: Hashable
    group: str
    task: Callable[[], None]


class FairQueue:
    """Runs at most ``size`` tasks at the same time, each in a thread of its own.

    Of the groups that wait, the one goes next that has the fewest tasks running; of several, the
    one whose turn was longest ago. Within a group it is first come, first served.
    """

    def __init__(self, size: int, name: str) -> None:
        """:param name: what the threads' names begin with."""
        self._size: Final = size
        self._name: Final = name
        self._changed = threading.Condition()
        self._waiting: dict[str, deque[Ticket]] = {}
        self._running: Counter[str] = Counter()
        # Those that count, by when they began.
        self._places: dict[Ticket, float] = {}
        self._served: dict[str, int] = {}
        self._turns = itertools.count(1)
        self._numbers = itertools.count()
        self._open = True

    def submit(self, ticket: Ticket) -> int:
        """Have a task run when its turn has come. What it raises is logged: a task that has
        something to say to others says it itself.

        :returns: at which place it waits; 0 if it begins at once.
        :raises QueueClosed: after :meth:`close`.
        """
        with self._changed:
            if not self._open:
                raise QueueClosed("the queue is closed")
            self._waiting.setdefault(ticket.group, deque()).append(ticket)
            self._fill()
            order = self._order()
        return order.index(ticket.key) + 1 if ticket.key in order else 0

    def fill(self) -> None:
        """Have begin what can: also what could not when its turn came, because there was no thread
        to be had."""
        with self._changed:
            self._fill()

    def waiting(self) -> list[Hashable]:
        """The keys of what waits, in the order in which it would begin now."""
        with self._changed:
            return self._order()

    def remove(self, key: Hashable) -> bool:
        """Take out what waits. ``False`` if it has begun, or was never here."""
        with self._changed:
            for group, tickets in self._waiting.items():
                for ticket in tickets:
                    if ticket.key == key:
                        tickets.remove(ticket)
                        if not tickets:
                            del self._waiting[group]
                        return True
        return False

    def give_up(self, seconds: float) -> list[Hashable]:
        """Let others have the places of what has been running for longer. It cannot be ended: its
        thread stays until it comes back by itself.

        :returns: the keys.
        """
        with self._changed:
            since = time.monotonic() - seconds
            late = [ticket for ticket, began in self._places.items() if began < since]
            for ticket in late:
                self._leave(ticket)
        return [ticket.key for ticket in late]

    def close(self) -> list[Hashable]:
        """Begin nothing any more, and take nothing.

        :returns: the keys of what has not begun, in order; nothing the second time.
        """
        with self._changed:
            self._open = False
            order = self._order()
            self._waiting.clear()
        return order

    def wait(self, timeout: float) -> int:
        """Until nothing runs.

        :param timeout: seconds.
        :returns: how many still run at its end.
        """
        until = time.monotonic() + timeout
        with self._changed:
            while self._running and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
            return self._running.total()

    # -- with the lock held ----------------------------------------------------------------

    def _fill(self) -> None:
        while self._waiting and self._running.total() < self._size:
            group = self._next(self._waiting, self._running, self._served)
            ticket = self._waiting[group][0]
            name = f"{self._name}-{next(self._numbers)}"
            thread = threading.Thread(target=self._run, args=[ticket], name=name, daemon=True)
            # Before it begins: what it is counted by must be there when it ends.
            self._running[group] += 1
            self._places[ticket] = time.monotonic()
            try:
                thread.start()
            except Exception as error:
                # The system has no more of them. It keeps its turn; see fill.
                del self._places[ticket]
                self._count_less(group)
                LOG.error("No thread to be had for what waits; it is tried again: %s", error)
                return
            self._waiting[group].popleft()
            if not self._waiting[group]:
                del self._waiting[group]
            self._served[group] = next(self._turns)

    def _count_less(self, group: str) -> None:
        self._running[group] -= 1
        if not self._running[group]:
            del self._running[group]

    def _leave(self, ticket: Ticket) -> None:
        if self._places.pop(ticket, None) is None:
            # It was given up.
            return
        self._count_less(ticket.group)
        if not self._running and not self._waiting:
            self._served.clear()
        self._fill()
        self._changed.notify_all()

    @staticmethod
    def _next(
        waiting: dict[str, deque[Ticket]], running: Counter[str], served: dict[str, int]
    ) -> str:
        return min(waiting, key=lambda group: (running[group], served.get(group, 0)))

    def _order(self) -> list[Hashable]:
        """As if nothing ended before all have begun: who has many running comes later."""
        waiting = {group: deque(tickets) for group, tickets in self._waiting.items()}
        running, served = self._running.copy(), dict(self._served)
        turn = max(served.values(), default=0)
        order = []
        while waiting:
            group = self._next(waiting, running, served)
            order.append(waiting[group].popleft().key)
            if not waiting[group]:
                del waiting[group]
            running[group] += 1
            served[group] = turn = turn + 1
        return order

    # -- a thread --------------------------------------------------------------------------

    def _run(self, ticket: Ticket) -> None:
        try:
            ticket.task()
        except Exception:
            LOG.exception("A task failed without a word")
        finally:
            with self._changed:
                self._leave(ticket)
