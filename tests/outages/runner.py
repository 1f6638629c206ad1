# SPDX-License-Identifier: Apache-2.0
"""Ask, kill something, start it again, look, and take the next snapshot: again and again."""

from __future__ import annotations

import contextlib
import random
import re
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tests.crash import boundaries, checks
from tests.crash.checks import Before
from tests.crash.scenarios import Scenario
from tests.crash.world import wait_until
from tests.fixtures import lost_job
from tests.outages import verdict
from tests.outages.clients import ANSWER_SECONDS, Asked, Crowd, ask
from tests.outages.configurations import Configuration
from tests.outages.kinds import VICTIMS, Kill
from tests.outages.victims import API_COMMAND, Api, Victim
from tests.outages.world import OutageWorld

DOWN_SECONDS = (0.1, 8.0)
END_SECONDS = 120.0
_RANDOM_SHARE = 0.25
# The client that is told 503 tries again, as Retry-After says.
_BACK_SECONDS = 60.0
_INSIDE_EVERY = 4
_LATE_SHARE = 0.5
# It dies again before what it interrupted has been put right.
_AGAIN_SHARE = 0.2
# A backup job that libvirt is just ending is gone after that.
_JOB_SECONDS = 5.0
# The service tries again what it cannot put right: every five minutes at last.
_LEFTOVER_SECONDS = 330.0

# Of what was logged about a loss.
_EXCERPT = 12000
_NOISE = re.compile(r" INFO | ERROR \S+ {2,}(File |\S)| ERROR \S+ +\^+$")

Say = Callable[[str], None]
Point = tuple[str, str, str, int]


class Runner:
    """Kills one victim after the other in a world.

    :param seed: of every choice.
    :param say: is told of each kill as it is judged.
    :param down: for how many seconds a victim stays dead: at least, and at most.
    """

    def __init__(
        self,
        world: OutageWorld,
        seed: int,
        say: Say,
        down: tuple[float, float] = DOWN_SECONDS,
    ) -> None:
        self._world = world
        self._down = down
        self._rng = random.Random(seed)
        self._say = say
        self.kills: list[Kill] = []
        self.snapshots = 0
        self._configuration = ""
        self._scenarios: Sequence[Scenario] = ()
        self._points: dict[str, list[Point]] = {}
        self._seconds: dict[str, float] = {}

    @property
    def lost(self) -> list[Kill]:
        """Those after which something was not as it must be."""
        return [kill for kill in self.kills if kill.problems]

    def prepare(self, configuration: Configuration) -> None:
        """Start everything, and learn what snapshots do when nothing dies."""
        self._configuration, self._scenarios = configuration.name, configuration.scenarios
        self._world.stop()
        self._world.configure(self._scenarios[0])
        self._world.start()
        for scenario in self._scenarios:
            self._learn(scenario)

    def run(self, name: str, kills: int) -> None:
        """Kill one kind of victim so often. What comes too late does not count."""
        victim = VICTIMS[name].make(self._world)
        plan = self._plan(VICTIMS[name].labels)
        hits, tries = 0, 0
        while hits < kills and tries < 2 * kills + 2:
            tries += 1
            hits += self._once(victim, plan)

    # -- where to kill -------------------------------------------------------------------------

    def _learn(self, scenario: Scenario) -> None:
        self._arm()
        began = time.monotonic()
        kill = self._new("none", scenario, "none")
        kill.where, kill.hit = "the first snapshot", False
        self._next(scenario, kill)
        if kill.problems:
            self._judge(kill)
            raise RuntimeError(f"{scenario.name} does not work: {kill.problems}")
        self._seconds[scenario.name] = time.monotonic() - began
        self._points[scenario.name] = [
            (command, *point)
            for command in self._world.commands
            for point in _until_ended(self._world.trace(command))
        ]

    def _plan(self, labels: tuple[str, ...]) -> list[tuple[Scenario, Point]]:
        """Places to kill at, those that matter most first; those of one label but once."""
        chosen: dict[tuple[str, ...], tuple[Scenario, Point]] = {}
        for scenario in self._scenarios:
            points = self._points[scenario.name]
            for point in self._rng.sample(points, len(points)):
                chosen.setdefault((scenario.name, *point[:3]), (scenario, point))
        shuffled = self._rng.sample(list(chosen.values()), len(chosen))
        return sorted(shuffled, key=lambda each: not each[1][2].startswith(labels))

    # -- one kill ------------------------------------------------------------------------------

    def _once(self, victim: Victim, plan: list[tuple[Scenario, Point]]) -> bool:
        """:returns: whether it has hit."""
        world, rng = self._world, self._rng
        at_random = rng.random() < _RANDOM_SHARE or not plan
        scenario, point = (rng.choice(self._scenarios), None) if at_random else plan.pop(0)
        kill = self._new(victim.name, scenario, "random" if at_random else "boundary")
        logged = len(world.log())
        before = {name: Before.of(world, guest) for name, guest in world.guests.items()}
        pids = self._pids(victim)
        # One wins of two that want the same; and another guest's is under way with it.
        other = rng.choice([each for each in self._scenarios if each.guest != scenario.guest])
        crowd = Crowd(world, [scenario, scenario, other])
        self._kill(victim, kill, crowd, point)
        late = rng.choice(self._scenarios) if rng.random() < _LATE_SHARE else None
        kill.down = self._stay_down(victim, crowd, late)
        if rng.random() < _AGAIN_SHARE:
            time.sleep(rng.uniform(0, 3))
            kill.problems += _own_end(victim, killed=False)
            victim.kill()
            kill.where += ", and again"
            kill.down += self._stay_down(victim, crowd, None)
        kill.problems += crowd.end(2 * ANSWER_SECONDS, cut_off=victim.name == Api.name)
        self._mend(kill)
        kill.problems += self._of(before, crowd)
        kill.outcomes.update(verdict.outcome(world, each) for each in crowd.asked)
        kill.problems += verdict.contents(world, crowd, inside=self._inside())
        if self._pids(victim) != pids:
            kill.problems.append(f"a service that was not killed has ended: {self._pids(victim)}")
        self._world.forget_snapshots()
        self._next(scenario, kill)
        if kill.problems:
            checks.sweep(world)
        self._judge(kill)
        if kill.problems:
            self._say(_excerpt(world.log()[logged:]))
        return kill.hit

    def _mend(self, kill: Kill) -> None:
        """What libvirt itself has lost, and only its operator can put right."""
        world = self._world
        problems = [
            problem
            for guest in world.guests.values()
            for problem in checks.free(world, guest, verdict.END_SECONDS)
        ]
        if problems:
            # The verdict says so.
            return

        def lost() -> list[str]:
            names = (guest.name for guest in world.guests.values())
            return lost_job.names(names, lambda name: world.ask("state", name=name))

        if wait_until(lambda: not lost(), _JOB_SECONDS):
            return
        kill.by_hand = lost()
        lost_job.put_right(world.lab, kill.by_hand)
        wait_until(lambda: not checks.nothing_on_the_host(world), _LEFTOVER_SECONDS)

    def _of(self, before: Mapping[str, Before], crowd: Crowd) -> list[str]:
        """The verdict, which also is one if it cannot be had."""
        try:
            return verdict.of(self._world, before, crowd.asked)
        except RuntimeError as exc:
            return [f"libvirt refuses to say how the guests are: {exc}"]

    def _new(self, victim: str, scenario: Scenario, kind: str) -> Kill:
        return Kill(victim, self._configuration, scenario.name, kind)

    def _kill(self, victim: Victim, kill: Kill, crowd: Crowd, point: Point | None) -> None:
        if point is None:
            delay = self._rng.uniform(0, self._seconds[kill.scenario])
            kill.where = f"{delay:.2f} s after the requests"
            self._arm()
            crowd.begin()
            time.sleep(delay)
            kill.problems += _own_end(victim, killed=False)
            kill.hit = not self._over(crowd)
        else:
            command, when, label, nth = point
            kill.where = f"{command[10:]}: {when} {label}" + (f" ({nth})" if nth > 1 else "")
            target = {"when": when, "label": label, "nth": nth, "group": victim.group}
            self._arm(**{command: target})
            crowd.begin()
            if not wait_until(lambda: not victim.running or self._over(crowd), END_SECONDS):
                kill.problems.append(f"neither dead nor done after {END_SECONDS:g} s")
            kill.hit = not victim.running
            kill.problems += _own_end(victim, killed=True)
        if not kill.hit:
            kill.problems += verdict.failed(self._world, crowd.asked)
        victim.kill()

    def _pids(self, victim: Victim) -> dict[str, int | None]:
        """Of the services that live on."""
        assert self._world.deployment is not None
        return {
            name: service.pid if service.running else None
            for name, service in self._world.deployment.services.items()
            if not (victim.name == Api.name and name == API_COMMAND)
        }

    def _over(self, crowd: Crowd) -> bool:
        """Whether everything that was asked has ended."""
        if not crowd.answered:
            return False
        with contextlib.suppress(OSError):
            return all(
                self._world.client.server(guest.uuid)["OS-EXT-STS:task_state"] is None
                for guest in self._world.guests.values()
            )
        return False

    def _stay_down(self, victim: Victim, crowd: Crowd, late: Scenario | None) -> float:
        """:returns: the seconds until it served again."""
        began = time.monotonic()
        down = self._rng.uniform(*self._down)
        if late is not None:
            moment = self._rng.uniform(0, down)
            time.sleep(moment)
            crowd.another(late)
            down -= moment
        time.sleep(down)
        victim.start()
        return time.monotonic() - began

    def _arm(self, **targets: dict[str, Any]) -> None:
        for command in self._world.commands:
            self._world.ask_of(command, "arm", **targets.get(command, {}))

    # -- the next snapshot ---------------------------------------------------------------------

    def _next(self, scenario: Scenario, kill: Kill) -> None:
        """From its beginning to its end, with nothing killed."""
        world = self._world
        self.snapshots += 1
        since, backups = world.counter(scenario.guest), world.backups()
        asked = self._accepted(scenario)
        if not asked.accepted:
            kill.problems.append(f"the next snapshot is refused: {asked} {asked.text}")
            return
        assert asked.image_id is not None
        said = checks.free(world, world.guests[scenario.guest])
        kill.problems += [f"the next snapshot: {problem}" for problem in said]
        # It is free before its backups are rotated, and the journal forgets it after that.
        wait_until(lambda: not world.requests_left(), 5)
        kill.problems += [f"the journal has {row}" for row in world.requests_left()]
        inside = self._inside()
        kill.problems += checks.image(world, scenario, asked.image_id, since, inside=inside)
        kill.problems += checks.made_by(world, scenario, asked.image_id)
        kill.problems += checks.rotated(world, scenario, backups, asked.image_id)
        kill.problems += checks.nothing_on_the_host(world)
        self._world.forget_snapshots()

    def _accepted(self, scenario: Scenario) -> Asked:
        """Ask until it is accepted, as long as the answer says that it is worth another try."""
        made: list[Asked] = []

        def over() -> bool:
            made.append(ask(scenario))
            made[-1].send(self._world)
            return made[-1].code != 503

        wait_until(over, _BACK_SECONDS)
        return made[-1]

    def _inside(self) -> bool:
        return self.snapshots % _INSIDE_EVERY == 1

    def _judge(self, kill: Kill) -> None:
        self.kills.append(kill)
        number = sum(each.hit for each in self.kills)
        said = "LOST" if kill.problems else "survived" if kill.hit else "missed"
        ends = ", ".join(f"{count} {what}" for what, count in sorted(kill.outcomes.items()))
        self._say(
            f"{number:4} {kill.victim:9} {kill.configuration:12} {kill.scenario:20} {said:9} "
            f"down {kill.down:4.1f} s, {kill.where}; {ends}"
        )
        if kill.by_hand:
            self._say(f"     put right by hand, as libvirt has lost its job: {kill.by_hand}")
        for problem in kill.problems:
            self._say(f"     {problem}")


def _own_end(victim: Victim, *, killed: bool) -> list[str]:
    """It runs, or has died as it was told to, and in no other way.

    :param killed: whether it has been told to.
    """
    allowed = (None, -signal.SIGKILL) if killed else (None,)
    if victim.returncode in allowed:
        return []
    return [f"{victim.name} ended by itself: {victim.returncode}"]


def _until_ended(trace: Sequence[tuple[str, str, int]]) -> Sequence[tuple[str, str, int]]:
    """What a service did for the snapshot."""
    ends = [number for number, point in enumerate(trace) if point[1] == boundaries.ENDED]
    return trace[: ends[-1] + 1] if ends else trace


def _excerpt(log: str) -> str:
    """What matters of a log, without the inner lines of tracebacks."""
    lines = [line for line in log.splitlines() if not _NOISE.search(line)]
    return "\n".join(f"     | {line}" for line in lines)[-_EXCERPT:]
