# SPDX-License-Identifier: Apache-2.0
"""A round: a burst of requests, a late project, and readers all the while."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from tests.load import plan as plans
from tests.load.asking import Answer, Asker
from tests.load.installation import ADMIN, Installation
from tests.load.plan import USER, Wanted

LOOK_SECONDS = 0.5
# What is read, in turn.
LIST, ONE = "GET /servers/detail", "GET /servers/ID"


@dataclass(frozen=True)
class Asked:
    """A createImage and its answer."""

    wanted: Wanted
    answer: Answer

    @property
    def image_id(self) -> str:
        """Of the image that was promised."""
        return str(self.answer.body["image_id"])


@dataclass
class Round:
    """What happened.

    :ivar began: in seconds since the epoch.
    :ivar burst: what was asked for at once; ``late`` is what came when that was answered.
    :ivar reads_in_burst: the answers to GETs sent before the burst was answered, by what was read;
        ``reads_after`` those sent later, while all places were taken.
    :ivar answered: seconds until the burst was answered, ``ended`` until all snapshots had ended.
    :ivar stuck: instances that had not ended in time, with their task_state.
    """

    number: int
    began: float = field(default_factory=time.time)
    burst: list[Asked] = field(default_factory=list)
    late: list[Asked] = field(default_factory=list)
    reads_in_burst: dict[str, list[Answer]] = field(default_factory=dict)
    reads_after: dict[str, list[Answer]] = field(default_factory=dict)
    answered: float = 0.0
    ended: float = 0.0
    stuck: dict[str, str] = field(default_factory=dict)

    @property
    def asked(self) -> list[Asked]:
        """Every createImage."""
        return self.burst + self.late

    @property
    def reads(self) -> list[Answer]:
        """Every answer to a GET."""
        both = (self.reads_in_burst, self.reads_after)
        return [answer for reads in both for answers in reads.values() for answer in answers]


async def run(installation: Installation, number: int) -> Round:
    """A round, until nothing is being done any more, or ought not to be."""
    made = Round(number)
    asker = installation.asker
    began = time.perf_counter()
    async with _reading(installation, asker, made.reads_in_burst):
        wanted = plans.burst(installation.plan, installation.instances, number)
        made.burst = await asyncio.gather(*(_ask(asker, each) for each in wanted))
    made.answered = time.perf_counter() - began
    async with _reading(installation, asker, made.reads_after):
        for each in plans.late(installation.instances, number):
            made.late.append(await _ask(asker, each))
        made.stuck = await _until_free(installation, asker)
        made.ended = time.perf_counter() - began
    return made


async def _ask(asker: Asker, wanted: Wanted) -> Asked:
    body = {"createImage": {"name": wanted.name}}
    path = f"/servers/{wanted.instance}/action"
    return Asked(wanted, await asker.post(path, f"{USER}:{wanted.project}", body))


@contextlib.asynccontextmanager
async def _reading(
    installation: Installation, asker: Asker, reads: dict[str, list[Answer]]
) -> AsyncIterator[None]:
    """Someone reads as long as the block runs, at a pace that does not wait for the answers.

    What goes wrong with that is raised when the block has ended.
    """
    sent: list[asyncio.Task[None]] = []

    async def read(what: str, project: str, path: str) -> None:
        reads.setdefault(what, []).append(await asker.get(path, f"{USER}:{project}"))

    async def reader() -> None:
        for project, uuid in _round_about(installation):
            for what, path in ((LIST, "/servers/detail"), (ONE, f"/servers/{uuid}")):
                sent.append(asyncio.create_task(read(what, project, path)))
            # Both at once: a block may be short, and each of them is to be read in it.
            await asyncio.sleep(2 * installation.plan.poll_seconds)

    running = asyncio.create_task(reader())
    try:
        yield
    finally:
        running.cancel()
        ended = await asyncio.gather(running, *sent, return_exceptions=True)
    for each in ended:
        # The reader itself was cancelled.
        if isinstance(each, Exception):
            raise each


def _round_about(installation: Installation) -> itertools.cycle[tuple[str, str]]:
    owners: Sequence[str] = list(installation.instances)
    some = [
        (owner, uuids[number % len(uuids)])
        for number in range(20)
        for owner, uuids in ((owner, installation.instances[owner]) for owner in owners)
    ]
    return itertools.cycle(some)


async def _until_free(installation: Installation, asker: Asker) -> dict[str, str]:
    """:returns: the instances that are not free when time is up, with their task_state."""
    until = time.monotonic() + installation.plan.end_seconds
    while True:
        answer = await asker.get("/servers/detail?all_tenants=1", ADMIN)
        servers = answer.body["servers"] if answer.status == 200 else []
        busy = {
            server["id"]: str(server["OS-EXT-STS:task_state"])
            for server in servers
            if server["OS-EXT-STS:task_state"] is not None
        }
        if (servers and not busy) or time.monotonic() > until:
            return busy
        await asyncio.sleep(LOOK_SECONDS)
