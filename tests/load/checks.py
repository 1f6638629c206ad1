# SPDX-License-Identifier: Apache-2.0
"""What a round has to leave: an image for each request that was accepted, or a reason; no more."""

from __future__ import annotations

import asyncio
import datetime
import hashlib
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from nova_snap.virt.fake import snapshot_data
from tests.load.asking import BUSY
from tests.load.installation import ADMIN, Installation
from tests.load.plan import USER, Plan
from tests.load.rounds import Asked, Round

AT_ONCE = 8
SETTLE_SECONDS = 20
Action = Mapping[str, Any]


@dataclass
class Outcome:
    """What became of a round's requests.

    :ivar active: how many ended as an ACTIVE image with the right bytes.
    :ivar failed: how many ended with a reason.
    :ivar refused: how many were refused with a reason, by status.
    :ivar seconds: from the answer to the end of each snapshot, by project. The service writes
        down whole seconds.
    :ivar problems: whatever does not hold.
    """

    active: int = 0
    failed: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    seconds: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)

    def median(self, project: str) -> float:
        """Seconds to the end of a project's snapshots; 0 if there were none."""
        return statistics.median(self.seconds[project]) if self.seconds[project] else 0.0


def judge(installation: Installation, made: Round) -> Outcome:
    """Look at everything that a round has left, and delete its images."""
    found = Outcome()
    _settle(installation)
    found.problems += bad_answers(made, installation.plan, found.refused)
    found.problems += [f"instance {uuid} stays in {state}" for uuid, state in made.stuck.items()]
    actions = asyncio.run(_actions(installation))
    images = _images(installation)
    found.problems += unwanted_images(made, images)
    found.problems += unwanted_actions(made, actions)
    for each in made.asked:
        if each.answer.accepted:
            _end(installation, each, images, actions, found)
    found.problems += _leftovers(installation)
    client = installation.glance.client(USER, "base", "admin")
    for image_id in images:
        client.images.delete(image_id)
    return found


def _settle(installation: Installation) -> None:
    """An instance is free a moment before its action has ended and the journal forgets it."""
    until = time.monotonic() + SETTLE_SECONDS
    while installation.journal() and time.monotonic() < until:
        time.sleep(0.2)


def bad_answers(made: Round, plan: Plan, refused: Counter[int]) -> Iterator[str]:
    """What is wrong with the answers: a server is busy (409), or the API was for too long (503),
    and nothing else is a reason to refuse.

    :param refused: is added up, by status.
    """
    for each in made.asked:
        answer = each.answer
        if answer.refused:
            refused[answer.status] += 1
        if answer.status == BUSY and not answer.waited(plan.queue_seconds):
            yield f"{each.wanted.name}: 503 after {answer.seconds:.1f} s: {answer.body}"
        elif not answer.accepted and not answer.refused:
            yield f"{each.wanted.name}: {answer.status} {answer.error or answer.body}"
        if not answer.request_id:
            yield f"{each.wanted.name}: the answer has no request id"
    for answer in made.reads:
        if answer.status != 200 and not answer.waited(plan.queue_seconds):
            said = answer.error or answer.body
            yield f"a GET: {answer.status} after {answer.seconds:.1f} s: {said}"
    for answers in made.reads_after.values():
        if late := sum(answer.refused for answer in answers):
            yield f"{late} GETs were refused although nothing was waiting before them"
    bound = plan.answer_seconds
    slow = [answer.seconds for answer in _all(made) if answer.seconds > bound]
    if slow:
        yield f"{len(slow)} answers took longer than {bound:g} s, the slowest {max(slow):.1f} s"


def _all(made: Round) -> list[Any]:
    return [*(each.answer for each in made.asked), *made.reads]


# -- one request -------------------------------------------------------------------------------


def _end(
    installation: Installation,
    asked: Asked,
    images: Mapping[str, Mapping[str, Any]],
    actions: Mapping[str, list[Action]],
    found: Outcome,
) -> None:
    """It has become an image, or there is a reason why not."""
    name, uuid = asked.wanted.name, asked.wanted.instance
    of_it = [one for one in actions[uuid] if one["request_id"] == asked.answer.request_id]
    if len(of_it) != 1:
        found.problems.append(f"{name}: {len(of_it)} actions of one request")
        return
    (action,) = of_it
    image = images.get(asked.image_id)
    if image is None:
        found.failed += 1
        if not action["message"]:
            found.problems.append(f"{name}: no image {asked.image_id}, and no reason")
        return
    said = f"{name}: image {asked.image_id}"
    if action["message"]:
        found.problems.append(f"{said} exists, and yet: {action['message']}")
    elif image["status"] != "active" or image["instance_uuid"] != uuid or image["name"] != name:
        found.problems.append(f"{said} is {image['status']}, {image['name']}")
    elif _download(installation, asked.image_id) != snapshot_data(uuid, installation.plan.size):
        found.problems.append(f"{said} has the bytes of something else")
    elif image["os_hash_value"] != _sha512(uuid, installation.plan.size):
        found.problems.append(f"{said} has another hash than its bytes")
    else:
        found.active += 1
        # An answer of the second in which the snapshot ended is not later than that.
        seconds = max(0.0, _time(action["updated_at"]) - asked.answer.ended)
        found.seconds[asked.wanted.project].append(seconds)


def _sha512(uuid: str, size: int) -> str:
    return hashlib.sha512(snapshot_data(uuid, size)).hexdigest()


def _download(installation: Installation, image_id: str) -> bytes:
    headers = installation.glance.identity_headers(USER, "base", "admin")
    url = f"{installation.glance.url}/v2/images/{image_id}/file"
    return requests.get(url, headers=headers, timeout=60).content


# -- all of them -------------------------------------------------------------------------------


def _images(installation: Installation) -> dict[str, Mapping[str, Any]]:
    """Everything in Glance that came of a snapshot, by id."""
    client = installation.glance.client(USER, "base", "admin")
    ours = {uuid for uuids in installation.instances.values() for uuid in uuids}
    return {
        image["id"]: dict(image)
        for image in client.images.list()
        if image.get("instance_uuid") in ours
    }


def unwanted_images(made: Round, images: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Images that nobody was promised, or that there are twice."""
    promised = Counter(each.image_id for each in made.asked if each.answer.accepted)
    for image_id, image in images.items():
        if image_id not in promised:
            yield f"image {image_id} ({image['name']}, {image['status']}) was promised to nobody"
    for image_id, count in promised.items():
        if count > 1:
            yield f"image {image_id} was promised {count} times"
    names = Counter(image["name"] for image in images.values())
    yield from (f"{count} images are called {name}" for name, count in names.items() if count > 1)


async def _actions(installation: Installation) -> dict[str, list[Action]]:
    """The createImages of each instance, by its uuid."""
    slots = asyncio.Semaphore(AT_ONCE)
    asker = installation.asker

    async def of(uuid: str) -> tuple[str, list[Action]]:
        async with slots:
            answer = await asker.get(f"/servers/{uuid}/os-instance-actions", ADMIN)
        rows = answer.body["instanceActions"] if answer.status == 200 else []
        return uuid, [row for row in rows if row["action"] == "createImage"]

    uuids = [uuid for each in installation.instances.values() for uuid in each]
    return dict(await asyncio.gather(*(of(uuid) for uuid in uuids)))


def unwanted_actions(made: Round, actions: Mapping[str, list[Action]]) -> Iterator[str]:
    """Whoever was refused has left no action, or one that says so."""
    accepted = {each.answer.request_id: each.answer.accepted for each in made.asked}
    for uuid, rows in actions.items():
        for row in rows:
            request_id = row["request_id"]
            if _time(row["start_time"]) < int(made.began):
                continue
            if request_id not in accepted:
                yield f"instance {uuid}: nobody has asked for the action of {request_id}"
            elif not accepted[request_id] and not row["message"]:
                yield f"instance {uuid}: {request_id} was refused, and its action goes on"


def _time(said: str) -> float:
    return datetime.datetime.fromisoformat(f"{said}+00:00").timestamp()


def _leftovers(installation: Installation) -> Iterator[str]:
    journal = installation.journal()
    if journal:
        yield f"the journal has {journal} requests"
    for name, count in installation.waiting_messages().items():
        yield f"{count} messages wait in the queue {name}"
    log = installation.log()
    if "Traceback (most recent call last)" in log:
        yield "a traceback is in the logs: " + log.partition("Traceback")[2][:1500]
