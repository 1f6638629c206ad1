# SPDX-License-Identifier: Apache-2.0
"""At which boundaries to kill, so that no step of a method is left out."""

from __future__ import annotations

import collections
import random
from collections.abc import Collection, Sequence

from tests.crash import boundaries

Point = tuple[str, str, int]
Aims = collections.Counter[tuple[object, ...]]

# Of the boundaries that a snapshot passes many times.
_OCCURRENCES = (1, 2, 3)
_RANKS = 3


class Plan:
    """The boundaries of a scenario: see :mod:`tests.crash.boundaries`.

    :param trace: of a snapshot that nobody has disturbed.
    :param aims: at what was aimed already: all scenarios of a method share it, for what they do is
        mostly the same. Kept up to date.
    """

    def __init__(self, trace: Sequence[Point], rng: random.Random, aims: Aims) -> None:
        ended = trace.index(("after", boundaries.ENDED, 1))
        last = {(when, label): nth for when, label, nth in trace[:ended]}
        self.points = [
            point for point in trace[:ended]
            if point[2] in _OCCURRENCES or point[2] == last[point[:2]]
        ]  # fmt: skip
        self.steps = frozenset(label for _when, label, _nth in self.points)
        self._rng = rng
        self._aims = aims

    def next(self, steps: Collection[str] = ()) -> Point:
        """A boundary of the step that was aimed at least often.

        After a step comes before "before" it: something has changed, and nobody has gone on. What
        is hard to put right, images and the journal, and the rest take turns.

        :param steps: one of these; by default of any.
        """
        turn = sum(self._aims[(label,)] for label in self.steps) % _RANKS
        chosen = min(
            (point for point in self.points if not steps or point[1] in steps),
            key=lambda point: (
                self._aims[(point[1],)],
                self._aims[point[:2]],
                (_rank(point) - turn) % _RANKS,
                self._aims[point],
                point[0] == "before",
                self._rng.random(),
            ),
        )
        self._aims.update([(chosen[1],), chosen[:2], chosen])
        return chosen


def _rank(point: Point) -> int:
    """What sort of a step it is."""
    label = point[1]
    if label.startswith(("libvirt ", "start of ")):
        return 0
    return 1 if label.startswith(("image: ", "journal: ")) else 2
