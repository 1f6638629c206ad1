# SPDX-License-Identifier: Apache-2.0
"""What must be true of requests that were made while something died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.crash import checks
from tests.crash.checks import Before
from tests.crash.world import World, wait_until
from tests.fixtures.lab_guest import Guest
from tests.outages.clients import Asked, Crowd
from tests.outages.world import PENDING_SECONDS

# A message that a broker has lost is found out after that; and a machine is busy.
END_SECONDS = PENDING_SECONDS + 60.0


def of(world: World, before: Mapping[str, Before], asked: Sequence[Asked]) -> list[str]:
    """Everything but the bytes, and whether the next snapshot works.

    :param before: by the guest's name.
    """
    problems = []
    for name, guest in world.guests.items():
        problems += [f"{name}: {said}" for said in _guest(world, guest, before[name])]
    for scenario in {each.scenario.guest: each.scenario for each in asked}.values():
        problems += checks.sound_disks(world, scenario)
    problems += checks.no_orphans(world)
    # The backups are the same ones in all of them: they are not of one guest.
    problems += checks.kept(world, next(iter(before.values())))
    problems += [f"{each}: {said}" for each in asked for said in _request(world, each)]
    problems += _strangers(world, before, asked)
    return problems + checks.nothing_on_the_host(world)


def outcome(world: World, asked: Asked) -> str:
    """In a word or two, for the table."""
    if _images(world, asked):
        return "done" if asked.accepted else "done, untold"
    if asked.accepted:
        return "ended with a reason"
    return "unanswered" if asked.code is None else f"refused ({asked.code})"


def failed(world: World, asked: Sequence[Asked]) -> list[str]:
    """What was accepted and has ended before anything died has no reason to fail."""
    problems = []
    for each in asked:
        if each.accepted and each.request_id is not None:
            guest = world.guests[each.scenario.guest]
            if said := checks.message(world, guest, each.request_id):
                problems.append(f"{each}: nothing was killed, and it has failed: {said}")
    return problems


def contents(world: World, crowd: Crowd, *, inside: bool) -> list[str]:
    """Every image holds the right bytes: guests that are still do not write meanwhile.

    :param inside: look into images of a guest that writes, which takes seconds.
    """
    return [
        f"{each}: {said}"
        for each in crowd.asked
        for image in _images(world, each)
        for said in checks.image(
            world, each.scenario, image["id"], crowd.since[each.scenario.guest], inside=inside
        )
    ]


def _guest(world: World, guest: Guest, before: Before) -> list[str]:
    if problems := checks.free(world, guest, END_SECONDS):
        return problems
    return checks.same_guest(world, guest, before)


def _images(world: World, asked: Asked) -> list[dict[str, Any]]:
    return world.images(name=asked.name)


def _request(world: World, asked: Asked) -> list[str]:
    """One image, or none and the reason; and none at all if the client was refused. See
    :func:`_strangers` for who got no answer."""
    guest = world.guests[asked.scenario.guest]
    found = _images(world, asked)
    if len(found) > 1:
        return [f"it has become {len(found)} images"]
    if asked.accepted:
        assert asked.request_id is not None
        count = _count(world, guest, asked.request_id)
        if count != 1:
            return [f"it was accepted, and has {count} actions"]
        return _ended(world, asked)
    if asked.code is None:
        return []
    problems = [f"it was refused, and there is image {image['id']}" for image in found]
    if asked.request_id is not None and _count(world, guest, asked.request_id):
        problems += _ended(world, asked)
    return problems


def _ended(world: World, asked: Asked) -> list[str]:
    request_id = asked.request_id
    assert request_id is not None
    # The instance is free a moment before the action ends.
    problems: list[str] = []

    def over() -> bool:
        problems[:] = checks.ended(world, asked.scenario, request_id, asked.name, asked.image_id)
        return not problems

    wait_until(over, checks.SOON)
    return problems


def _count(world: World, guest: Guest, request_id: str) -> int:
    return sum(each["request_id"] == request_id for each in world.actions(guest))


def _strangers(world: World, before: Mapping[str, Before], asked: Sequence[Asked]) -> list[str]:
    """Actions of requests that got no answer have ended as well, each with an image or a reason;
    and nobody else's are there.

    Which of them is whose nobody can tell, but how many images there are.
    """
    known = {each.request_id for each in asked if each.request_id is not None}
    problems: list[str] = []
    for name, guest in world.guests.items():
        unanswered = [e for e in asked if e.code is None and e.scenario.guest == name]
        strange = [
            each["request_id"]
            for each in checks.new_actions(world, guest, before[name])
            if each["request_id"] not in known
        ]
        if len(strange) > len(unanswered):
            problems.append(
                f"{name}: {len(unanswered)} requests got no answer, and {len(strange)} have actions"
            )
        problems += _untold(world, guest, strange, unanswered)
    return problems


def _untold(
    world: World, guest: Guest, strange: Sequence[str], unanswered: Sequence[Asked]
) -> list[str]:
    """:param strange: request ids of actions; each is of one of ``unanswered``."""
    problems: list[str] = []

    def over() -> bool:
        problems[:] = [said for each in strange for said in checks.steps_ended(world, guest, each)]
        silent = [each for each in strange if not checks.message(world, guest, each)]
        images = [image["id"] for each in unanswered for image in _images(world, each)]
        # The message of a backup may be about the others, that were not rotated.
        backup = any(each.scenario.backup for each in unanswered)
        if len(images) < len(silent) or (len(images) > len(silent) and not backup):
            problems.append(
                f"of requests without an answer, {silent} have no reason, and images are {images}"
            )
        return not problems

    wait_until(over, checks.SOON)
    return problems
