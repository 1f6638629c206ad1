# SPDX-License-Identifier: Apache-2.0
"""What must be true of requests that were made while something died."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.crash import checks
from tests.crash.checks import Before
from tests.crash.world import World, wait_until
from tests.fixtures.lab_guest import Guest
from tests.outages.clients import Asked
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


def contents(world: World, asked: Sequence[Asked], *, inside: bool) -> list[str]:
    """Every image holds the right bytes: guests that are still do not write meanwhile.

    :param inside: look into images of a guest that writes, which takes seconds.
    """
    return [
        f"{each}: {said}"
        for each in asked
        for image in _images(world, each)
        for said in checks.image(world, each.scenario, image["id"], inside=inside)
    ]


def _guest(world: World, guest: Guest, before: Before) -> list[str]:
    if problems := checks.free(world, guest, END_SECONDS):
        return problems
    return checks.same_guest(world, guest, before)


def _images(world: World, asked: Asked) -> list[dict[str, Any]]:
    return world.images(name=asked.name)


def _request(world: World, asked: Asked) -> list[str]:
    """One image, or none and the reason; and none at all if the client was refused."""
    guest = world.guests[asked.scenario.guest]
    found = _images(world, asked)
    if len(found) > 1:
        return [f"it has become {len(found)} images"]
    if asked.accepted:
        assert asked.request_id is not None
        count = _count(world, guest, asked.request_id)
        if count != 1:
            return [f"it was accepted, and has {count} actions"]
        return _ended(world, guest, asked.request_id, asked.image_id)
    if asked.code is None:
        return []
    problems = [f"it was refused, and there is image {image['id']}" for image in found]
    if asked.request_id is not None and _count(world, guest, asked.request_id):
        problems += _ended(world, guest, asked.request_id, None)
    return problems


def _ended(world: World, guest: Guest, request_id: str, image_id: str | None) -> list[str]:
    # The instance is free a moment before the action ends.
    problems: list[str] = []

    def over() -> bool:
        problems[:] = checks.ended(world, guest, request_id, image_id)
        return not problems

    wait_until(over, checks.SOON)
    return problems


def _count(world: World, guest: Guest, request_id: str) -> int:
    return sum(each["request_id"] == request_id for each in world.actions(guest))


def _strangers(world: World, before: Mapping[str, Before], asked: Sequence[Asked]) -> list[str]:
    """Actions of requests that got no answer have ended as well; and nobody else's are there."""
    known = {each.request_id for each in asked if each.request_id is not None}
    unanswered = sum(each.code is None for each in asked)
    problems, strangers = [], 0
    for name, guest in world.guests.items():
        for action in world.actions(guest):
            request_id = action["request_id"]
            if request_id in known or request_id in before[name].actions:
                continue
            strangers += 1
            problems += _ended(world, guest, request_id, None)
    if strangers > unanswered:
        problems.append(f"{unanswered} requests got no answer, and {strangers} have actions")
    return problems
