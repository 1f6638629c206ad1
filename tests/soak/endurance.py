# SPDX-License-Identifier: Apache-2.0
"""Snapshot after snapshot: taken, looked at, deleted, and a sample of what is held then."""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Iterator

from tests.crash import checks
from tests.crash.checks import Before
from tests.crash.scenarios import Scenario
from tests.crash.world import PROJECT, ROTATION, USER, wait_until
from tests.soak import flat
from tests.soak.kinds import Kind, deck
from tests.soak.sampling import RULES, Sampler
from tests.soak.world import World

END_SECONDS = 120.0
MIDDLE_SECONDS = 30.0
# So many bytes of an upload have been sent when it breaks.
_BREAK_AFTER = 5 << 20
# Every how many snapshots of the guest that writes its image is opened.
_INSIDE_EVERY = 5


@dataclasses.dataclass
class Taken:
    """One snapshot.

    :ivar seconds: from the request to its end.
    """

    kind: Kind
    seconds: float = 0.0
    problems: list[str] = dataclasses.field(default_factory=list)


class Endurance:
    """Takes snapshots on a world.

    :param seed: of their order.
    :param say: is told of each snapshot.
    :ivar samples: one after each snapshot, by the names of the rules.
    :ivar threads: the names of the service's threads then.
    """

    def __init__(self, world: World, seed: int, say: Callable[[str], None]) -> None:
        self._world = world
        self._deck = deck(seed)
        self._say = say
        self._backups: list[str] = []
        self.taken: list[Taken] = []
        self.samples: list[dict[str, float]] = []
        self.threads: list[list[str]] = []

    def run(self, count: int) -> None:
        """Take so many, all by one process."""
        world = self._world
        # What is of one kind only is set when its turn has come.
        world.configure(Scenario("soak", "writer", "stream"))
        world.start()
        sampler = Sampler(world)
        with (world.directory / "samples.jsonl").open("w") as file:
            for kind in itertools.islice(self._deck, count):
                self._one(kind)
                self.samples.append(sampler.take())
                self.threads.append(world.ask("threads"))
                said = {"kind": kind.name, **self.samples[-1], "names": self.threads[-1]}
                file.write(json.dumps(said) + "\n")
                file.flush()
        for kind in {each.kind.scenario.guest: each.kind for each in self.taken}.values():
            self.taken[-1].problems += checks.sound_disks(world, kind.scenario)
        world.stop()

    def verdicts(self) -> list[flat.Verdict]:
        """:raises tests.soak.flat.TooShort: after too few snapshots."""
        return flat.judge_all(RULES, self.samples)

    # -- one snapshot --------------------------------------------------------------------------

    def _one(self, kind: Kind) -> None:
        world, guest = self._world, self._world.guests[kind.scenario.guest]
        taken = Taken(kind)
        self.taken.append(taken)
        world.ask("change", options=kind.options)
        before = Before.of(world, guest)
        began = time.monotonic()
        since = world.counter(kind.scenario.guest)
        taken.problems += self._take(kind, before, since)
        taken.seconds = time.monotonic() - began
        taken.problems += checks.same_guest(world, guest, before)
        taken.problems += checks.nothing_on_the_host(world)
        taken.problems += self._forget()
        said = "; ".join(taken.problems) or "good"
        self._say(f"{len(self.taken):4} {kind.name:18} {taken.seconds:5.1f} s  {said}")

    def _take(self, kind: Kind, before: Before, since: int | None) -> Iterator[str]:
        """:returns: what was wrong.

        :param since: how often the guest had written before.
        """
        world = self._world
        broken = world.proxy.broken
        if kind.ending in ("retried", "failed"):
            tries = 1 if kind.ending == "retried" else 1 + kind.glance["num_retries"]
            world.proxy.break_requests(tries, after=_BREAK_AFTER)
        name, image_id = world.request(kind.scenario)
        assert image_id is not None
        if kind.ending == "cancelled":
            yield from self._cancel(kind, image_id)
        if not wait_until(lambda: self._ended(kind), END_SECONDS):
            yield f"it has not ended after {END_SECONDS:g} s"
        yield from checks.reason(world, kind.scenario, before, name, image_id)
        if kind.ending in ("retried", "failed") and world.proxy.broken == broken:
            yield "no upload was broken"
        if kind.ending in ("whole", "retried"):
            yield from self._whole(kind, image_id, since)
            if kind.scenario.backup:
                self._backups.append(image_id)
        elif world.images(id=image_id):
            yield f"image {image_id} is there, although the snapshot was {kind.ending}"
        yield from checks.rotated(world, kind.scenario, before.backups, image_id)

    def _ended(self, kind: Kind) -> bool:
        world = self._world
        server = world.client.server(world.guests[kind.scenario.guest].uuid)
        return server["OS-EXT-STS:task_state"] is None and not world.requests_left()

    def _cancel(self, kind: Kind, image_id: str) -> Iterator[str]:
        """Delete the image while it is sent."""
        world, guest = self._world, self._world.guests[kind.scenario.guest]

        def sent() -> bool:
            state = world.client.server(guest.uuid)["OS-EXT-STS:task_state"]
            return bool(state == "image_uploading")

        if not wait_until(sent, MIDDLE_SECONDS):
            yield "it was not sent in time to be cancelled"
        world.glance.client(USER, PROJECT).images.delete(image_id)

    def _whole(self, kind: Kind, image_id: str, since: int | None) -> Iterator[str]:
        world, scenario = self._world, kind.scenario
        of_writer = sum(each.kind.scenario.guest == "writer" for each in self.taken)
        inside = of_writer % _INSIDE_EVERY == 1
        yield from checks.image(world, scenario, image_id, since, inside=inside)
        yield from checks.made_by(world, scenario, image_id)

    def _forget(self) -> Iterator[str]:
        """Delete the images; backups are deleted by their rotation, and only so.

        :returns: what is there and should not, or the other way.
        """
        client = self._world.glance.client(USER, PROJECT, "admin")
        for image in self._world.images(image_type="snapshot"):
            client.images.delete(image["id"])
        wanted = {*self._backups[-ROTATION:]}
        found = {image["id"] for image in self._world.images()}
        if found != wanted:
            yield f"images {sorted(found)} are left, and not {sorted(wanted)}"
