# SPDX-License-Identifier: Apache-2.0
"""How much is asked for, by whom, of which servers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Shares of the burst. The first has most of it, and the last comes when the queues are full.
BURST = {"shop": 0.6, "bank": 0.3, "club": 0.1}
LATE = "desk"
USER = "kim"
_HOSTS = 2


@dataclass(frozen=True)
class Plan:
    """The size of a run.

    :ivar instances: on both hosts together, those of the late project included.
    :ivar requests: createImages that are sent at the same moment.
    :ivar late: createImages of a project that asks when everybody else has been answered.
    :ivar rounds: bursts, one after the other; the first warms the processes up.
    :ivar delay: seconds that each of the three phases of a snapshot takes.
    :ivar places: snapshots that a host takes at the same time.
    :ivar size: bytes of an image.
    :ivar answer_seconds: the longest that an answer may take.
    :ivar queue_seconds: what the API waits for a thread: an answer of 503 is due after that, and
        never before.
    :ivar poll_seconds: between two GETs while the load lasts.
    """

    instances: int = 200
    requests: int = 500
    late: int = 10
    rounds: int = 4
    delay: float = 1.0
    places: int = 5
    size: int = 64 << 10
    answer_seconds: float = 90.0
    queue_seconds: int = 45
    poll_seconds: float = 0.5

    def __post_init__(self) -> None:
        """:raises ValueError: if there is too little of something."""
        if min(self.owned.values()) < 1:
            raise ValueError(
                f"{self.instances} instances are not enough for {len(self.owned)} projects"
            )
        if min(self.requests, self.rounds, self.places, self.size) < 1 or self.delay < 0:
            raise ValueError("requests and rounds must be 1 or more, and delays not negative")

    @property
    def owned(self) -> dict[str, int]:
        """How many instances each project has."""
        left = self.instances - self.late
        counts = {project: round(left * share) for project, share in BURST.items()}
        counts[next(iter(BURST))] += left - sum(counts.values())
        return {**counts, LATE: self.late}

    @property
    def crowded(self) -> bool:
        """Whether the first project alone fills the places of both hosts so often that it shows
        in the times whether the late one waits behind it."""
        most = self.owned[next(iter(BURST))]
        return most >= 8 * self.places * _HOSTS and most >= 8 * self.late

    @property
    def end_seconds(self) -> float:
        """The longest that a round may take: many times what its snapshots need."""
        snapshots = (self.requests + self.late) / (_HOSTS * self.places)
        return 60 + 4 * snapshots * (3 * self.delay + 1)


@dataclass(frozen=True)
class Wanted:
    """A createImage.

    :ivar name: of the image; no two requests have the same.
    """

    project: str
    instance: str
    name: str


def burst(plan: Plan, instances: Mapping[str, Sequence[str]], number: int) -> list[Wanted]:
    """The requests of a round, in the order in which they are sent: each instance is asked for
    about as often as the others of its project.

    :param instances: uuids, by project.
    """
    counts = {project: round(plan.requests * share) for project, share in BURST.items()}
    counts[next(iter(BURST))] += plan.requests - sum(counts.values())
    wanted = [
        Wanted(project, instances[project][index % len(instances[project])],
               f"{project}-{number}-{index}")
        for project, count in counts.items()
        for index in range(count)
    ]  # fmt: skip
    random.Random(number).shuffle(wanted)
    return wanted


def late(instances: Mapping[str, Sequence[str]], number: int) -> list[Wanted]:
    """The requests of the project that comes when the queues are full."""
    return [
        Wanted(LATE, uuid, f"{LATE}-{number}-{index}") for index, uuid in enumerate(instances[LATE])
    ]
