# SPDX-License-Identifier: Apache-2.0
"""Kill, start, look, and take the next snapshot: again and again."""

from __future__ import annotations

import collections
import dataclasses
import random
import signal
import time
from collections.abc import Callable, Collection, Sequence

from tests.crash import boundaries, checks
from tests.crash.checks import Before
from tests.crash.plan import Aims, Plan, Point
from tests.crash.scenarios import Scenario
from tests.crash.world import World, wait_until
from tests.fixtures.service_process import ServiceProcess

END_SECONDS = 120.0
# Of the kills: by the clock and not at a boundary; and followed by one of the next process, too.
_RANDOM_SHARE = 0.25
_AGAIN_SHARE = 0.2
# What a call has begun in libvirt goes on when the call has returned: seconds after a boundary.
_LATER = (0, 0, 0.002, 0.005, 0.015)
# A start passes about so many boundaries until everything is put right.
_RECOVERY_BOUNDARIES = 16
# Every how many snapshots of a guest that writes its image is opened.
_INSIDE_EVERY = 4
# Of what the service said about a loss: characters.
_EXCERPT = 12000


@dataclasses.dataclass
class Kill:
    """One try.

    :ivar kind: ``boundary``, ``random`` or ``recovery``: of the process that put things right.
    :ivar where: the last boundary that was passed.
    :ivar hit: whether the snapshot had not ended yet.
    """

    scenario: str
    kind: str
    where: str = "-"
    hit: bool = True
    problems: list[str] = dataclasses.field(default_factory=list)


class Matrix:
    """Runs scenarios on a world.

    :param seed: of every choice.
    :param say: is told of each kill as it is judged.
    """

    def __init__(self, world: World, seed: int, say: Callable[[str], None]) -> None:
        self._world = world
        self._rng = random.Random(seed)
        self._say = say
        self.kills: list[Kill] = []
        self.snapshots = 0
        self.points: dict[str, int] = {}
        self._aims: dict[str, Aims] = collections.defaultdict(collections.Counter)
        self._steps: dict[str, set[str]] = collections.defaultdict(set)
        self._own_steps: dict[str, frozenset[str]] = {}
        self._hit: dict[str, set[str]] = collections.defaultdict(set)

    def run(self, scenarios: Sequence[Scenario], kills: int, *, everywhere: bool = False) -> None:
        """Kill so often, shared out evenly. A kill that is late does not count.

        :param everywhere: and then on, until every method was killed at every one of its steps.
        """
        for number, scenario in enumerate(scenarios):
            share = kills // len(scenarios) + (number < kills % len(scenarios))
            if share:
                self._run(scenario, share)
        if everywhere:
            for scenario in scenarios:
                self._run_rest(scenario)
        self._world.stop()

    def steps(self, method: str) -> set[str]:
        """What a method does, as far as it was seen."""
        return self._steps[method]

    def missed(self, method: str) -> set[str]:
        """At which of its steps it was not killed."""
        return self._steps[method] - self._hit[method]

    @property
    def lost(self) -> list[Kill]:
        """Those after which something was not as it must be."""
        return [kill for kill in self.kills if kill.problems]

    # -- one scenario --------------------------------------------------------------------------

    def _run(self, scenario: Scenario, share: int) -> None:
        if (begun := self._begin(scenario)) is None:
            return
        plan, seconds = begun
        hits, tries = 0, 0
        while hits < share and tries < 2 * share + 2:
            tries += 1
            hits += self._once(scenario, plan, seconds, left=share - hits)

    def _run_rest(self, scenario: Scenario) -> None:
        """Kill at those of its steps at which no snapshot by its method was killed."""
        mine, method = self._own_steps.get(scenario.name, frozenset()), scenario.method
        if not mine & self.missed(method) or (begun := self._begin(scenario)) is None:
            return
        plan, seconds = begun
        for _ in range(2 * len(plan.steps & self.missed(method))):
            if left := plan.steps & self.missed(method):
                self._once(scenario, plan, seconds, left=1, steps=left)

    def _begin(self, scenario: Scenario) -> tuple[Plan, float] | None:
        """:returns: what to do, and how long a snapshot takes; ``None`` if it does not work."""
        world = self._world
        world.stop()
        world.configure(scenario)
        world.start()
        world.ask("arm")
        began = time.monotonic()
        first = Kill(scenario.name, "none", "the first snapshot", hit=False)
        self._whole(scenario, first)
        seconds = time.monotonic() - began
        if first.problems:
            # Whatever comes after this means nothing.
            self._judge(first)
            return None
        plan = Plan(world.trace(), self._rng, self._aims[scenario.method])
        self.points[scenario.name] = len(plan.points)
        self._own_steps[scenario.name] = plan.steps
        self._steps[scenario.method] |= plan.steps
        return plan, seconds

    def _once(
        self,
        scenario: Scenario,
        plan: Plan,
        seconds: float,
        left: int,
        steps: Collection[str] = (),
    ) -> int:
        """:param steps: kill at one of these.
        :returns: how many kills have hit."""
        world, rng = self._world, self._rng
        logged = len(world.log())
        before = Before.of(world, world.guests[scenario.guest])
        at_random = not steps and rng.random() < _RANDOM_SHARE
        kill = Kill(scenario.name, "random" if at_random else "boundary")
        made = [kill]
        point = None if at_random else plan.next(steps)
        delay = rng.uniform(0, seconds) if at_random else 0 if steps else rng.choice(_LATER)
        since = world.counter(scenario.guest)
        name, image_id = self._kill(scenario, kill, point, delay)
        if kill.hit and left > 1 and rng.random() < _AGAIN_SHARE:
            made.append(self._kill_again(scenario))
        if not world.service.running:
            world.start()
        world.ask("arm")
        kill.problems += checks.all_of_them(world, scenario, before, name, image_id)
        # It may be whole, and must be then.
        for image in checks.images_of(world, name):
            kill.problems += checks.image(world, scenario, image["id"], since, inside=True)
        if not kill.hit:
            kill.problems += self._failed(scenario, before)
        self._whole(scenario, kill)
        if any(each.problems for each in made):
            checks.sweep(world)
        problems = [problem for each in made for problem in each.problems]
        for each in made:
            each.problems = problems
            self._judge(each)
        if problems:
            self._say(_excerpt(world.log()[logged:]))
        return sum(each.hit for each in made)

    def _kill(
        self, scenario: Scenario, kill: Kill, point: Point | None, delay: float
    ) -> tuple[str, str | None]:
        """:param delay: seconds after the boundary, or after the request if there is none.
        :returns: the image's name, and its id, if the client was told."""
        world = self._world
        world.ask("arm", **({**_target(point), "later": delay} if point else {}))
        name, image_id = world.request(scenario)
        if point is None:
            time.sleep(delay)
            if not world.service.running:
                kill.problems.append(f"the service ended by itself: {world.service.returncode}")
            world.service.crash()
        elif not wait_until(lambda: self._over(scenario), END_SECONDS):
            kill.problems.append(f"neither dead nor done after {END_SECONDS:g} s")
        else:
            kill.problems += _own_end(world.service)
        passed = world.trace()
        kill.where = _text(passed[-1]) if passed else "nothing passed yet"
        kill.hit = not world.service.running and ("after", boundaries.ENDED, 1) not in passed
        if kill.hit and passed:
            self._hit[scenario.method].add(passed[-1][1])
        return name, image_id

    def _failed(self, scenario: Scenario, before: Before) -> list[str]:
        """Whoever was not hit has no reason to fail."""
        world, guest = self._world, self._world.guests[scenario.guest]
        return [
            f"nothing was killed, and the snapshot has failed: {action['message']}"
            for action in checks.new_actions(world, guest, before)
            if action["message"]
        ]

    def _kill_again(self, scenario: Scenario) -> Kill:
        """Kill the process that puts right what the first one has left."""
        kill = Kill(scenario.name, "recovery")
        count = self._rng.randint(1, _RECOVERY_BOUNDARIES)
        kill.hit = not self._world.start({"count": count})
        if kill.hit:
            kill.where = _text(self._world.trace()[-1])
            kill.problems += _own_end(self._world.service)
        return kill

    def _over(self, scenario: Scenario) -> bool:
        if not self._world.service.running:
            return True
        try:
            action = self._world.actions(self._world.guests[scenario.guest])[0]
            server = self._world.client.server(self._world.guests[scenario.guest].uuid)
        except (OSError, IndexError):
            return False
        # "updated_at" of an action that has ended does not change any more.
        done = server["OS-EXT-STS:task_state"] is None and action["message"] is not None
        return done or ("after", boundaries.ENDED, 1) in self._world.trace()

    def _whole(self, scenario: Scenario, kill: Kill) -> None:
        """The next snapshot, from its beginning to its end, with nothing killed."""
        world = self._world
        self.snapshots += 1
        since, backups = world.counter(scenario.guest), world.backups()
        try:
            _name, image_id = world.request(scenario)
        except AssertionError as exc:
            kill.problems.append(f"the next snapshot is refused: {exc}")
            return
        assert image_id is not None

        def ended() -> bool:
            return ("after", boundaries.ENDED, 1) in world.trace()

        if not wait_until(ended, END_SECONDS):
            kill.problems.append(f"the next snapshot has not ended after {END_SECONDS:g} s")
            return
        wait_until(lambda: not world.requests_left(), 5)
        kill.problems += [f"the journal has {row}" for row in world.requests_left()]
        inside = self.snapshots % _INSIDE_EVERY == 1
        kill.problems += checks.image(world, scenario, image_id, since, inside=inside)
        kill.problems += checks.made_by(world, scenario, image_id)
        kill.problems += checks.rotated(world, scenario, backups, image_id)
        kill.problems += checks.nothing_on_the_host(world)
        self._world.forget_snapshots()

    def _judge(self, kill: Kill) -> None:
        self.kills.append(kill)
        number = sum(each.hit for each in self.kills)
        said = "LOST" if kill.problems else "survived" if kill.hit else "missed"
        self._say(f"{number:4} {kill.scenario:22} {kill.kind:9} {said:9} {kill.where}")
        for problem in kill.problems:
            self._say(f"     {problem}")


def _own_end(service: ServiceProcess) -> list[str]:
    """It runs, or has died as it was told to, and in no other way."""
    code = service.returncode
    return [] if code in (None, -signal.SIGKILL) else [f"the service ended by itself: {code}"]


def _target(point: Point) -> dict[str, str | float]:
    when, label, nth = point
    return {"when": when, "label": label, "nth": nth}


def _text(point: Point) -> str:
    when, label, nth = point
    return f"{when} {label}" + (f" ({nth})" if nth > 1 else "")


def _excerpt(log: str) -> str:
    """What matters of a log: also what libvirt itself says, which has no level of ours."""
    lines = [line for line in log.splitlines() if " INFO nova_snap.api." not in line]
    return "\n".join(f"     | {line}" for line in lines)[-_EXCERPT:]
