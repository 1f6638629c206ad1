# SPDX-License-Identifier: Apache-2.0
"""An image service that refuses, stalls, truncates and lies, under the whole service.

Whatever it does: the snapshot ends in time, the action says why, no image is left that nobody
looks for, the instance is free, the next snapshot holds the right bytes; and what is not good is
never said to be.
"""

import dataclasses
import time
from collections.abc import Iterator

import pytest

from nova_snap import exception
from tests.fixtures.service import configuration
from tests.stand_ins.faults import (
    Answer,
    Fault,
    HangUp,
    Lie,
    Pretend,
    Refuse,
    Spoil,
    Stall,
    Trickle,
    Truncate,
    Vanish,
)
from tests.unit.faults.world import SIZE, SOON, World

UPLOAD = ("PUT", "images/*/file")
LOOK = ("GET", "images/*")
PROPERTIES = ("PATCH", "images/*")
CREATE = ("POST", "images")
DELETE = ("DELETE", "images/*")


@pytest.fixture(scope="module")
def _world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with configuration(tmp_path_factory.mktemp("world")) as conf, World(conf) as made:
        yield made


@pytest.fixture
def world(_world: World) -> World:
    _world.glance.heal()
    return _world


@dataclasses.dataclass(frozen=True)
class Case:
    """:ivar words: a part of the action's message; ``None``: the snapshot succeeds."""

    request: tuple[str, str]
    fault: Fault
    words: str | None
    times: int | None = None
    nth: int = 1


UNREACHABLE = "cannot be reached"
GONE = "The image was deleted while the snapshot was being taken."

CASES = {
    # It refuses.
    "upload-401": Case(UPLOAD, Refuse(401), "token has expired"),
    "upload-403": Case(UPLOAD, Refuse(403, "not yours"), "not yours"),
    "upload-404": Case(UPLOAD, Refuse(404), GONE),
    "upload-409": Case(UPLOAD, Refuse(409, "it has data"), "it has data"),
    "upload-413": Case(UPLOAD, Refuse(413, "over quota"), "over quota"),
    "upload-500": Case(UPLOAD, Refuse(500), UNREACHABLE),
    "upload-503": Case(UPLOAD, Refuse(503), UNREACHABLE),
    "upload-503-once": Case(UPLOAD, Refuse(503), None, times=1),
    "properties-500": Case(PROPERTIES, Refuse(500), UNREACHABLE),
    "properties-500-once": Case(PROPERTIES, Refuse(500), None, times=1),
    "properties-400": Case(PROPERTIES, Refuse(400, "too odd"), "too odd"),
    "properties-418": Case(PROPERTIES, Refuse(418, "a teapot"), "a teapot"),
    # It hangs up.
    "upload-hangs-up": Case(UPLOAD, HangUp(50_000), UNREACHABLE),
    "upload-hangs-up-at-once": Case(UPLOAD, HangUp(), UNREACHABLE),
    "upload-hangs-up-once": Case(UPLOAD, HangUp(50_000), None, times=1),
    "properties-hang-up-once": Case(PROPERTIES, HangUp(), None, times=1),
    # It stalls.
    "upload-is-not-read": Case(UPLOAD, Stall("body", 10_000), UNREACHABLE),
    "upload-has-no-answer": Case(UPLOAD, Stall("headers"), None),
    # The answer is broken off, and the next try finds the image active.
    "upload-answered-byte-by-byte": Case(UPLOAD, Trickle(headers=True), None),
    "properties-have-no-answer": Case(PROPERTIES, Stall("headers"), UNREACHABLE),
    "properties-have-half-an-answer": Case(PROPERTIES, Stall("answer"), UNREACHABLE),
    "properties-have-half-an-answer-once": Case(PROPERTIES, Stall("answer"), None, times=1),
    "properties-answered-byte-by-byte": Case(PROPERTIES, Trickle(), UNREACHABLE),
    "properties-trickle-from-the-first-line": Case(PROPERTIES, Trickle(headers=True), UNREACHABLE),
    # It truncates.
    "properties-truncated": Case(PROPERTIES, Truncate(), UNREACHABLE),
    "properties-truncated-once": Case(PROPERTIES, Truncate(), None, times=1),
    "half-a-record": Case(PROPERTIES, Truncate(announced=False), UNREACHABLE),
    # It says something else.
    "a-page-for-people": Case(
        PROPERTIES, Answer(b"<html>Please log in</html>", content_type="text/html"), UNREACHABLE
    ),
    "no-record": Case(PROPERTIES, Answer(b""), UNREACHABLE),
    "a-list": Case(PROPERTIES, Answer(b"[1, 2]"), UNREACHABLE),
    "nothing-in-it": Case(PROPERTIES, Answer(b"{}"), UNREACHABLE),
    # It lies.
    "kept-nothing": Case(UPLOAD, Pretend(), "is queued"),
    "still-saving": Case(UPLOAD, Spoil({"status": "saving"}), "is saving"),
    "still-importing": Case(UPLOAD, Spoil({"status": "importing"}), "is importing"),
    "queued-again": Case(UPLOAD, Spoil({"status": "queued"}), "is queued"),
    "killed": Case(UPLOAD, Spoil({"status": "killed"}), "is killed"),
    "other-hash": Case(UPLOAD, Spoil({"os_hash_value": "0" * 128}), "other bytes than were sent"),
    "other-kind-of-hash": Case(
        UPLOAD, Spoil({"os_hash_algo": "md5", "os_hash_value": "0" * 32}), "md5"
    ),
    "other-size": Case(UPLOAD, Spoil({"size": SIZE - 1}), f"holds {SIZE - 1} bytes"),
    "no-size": Case(UPLOAD, Spoil({"size": None}), None),
    "no-hash": Case(UPLOAD, Spoil({"os_hash_algo": None, "os_hash_value": None}), None),
    "nothing-to-compare": Case(
        UPLOAD, Spoil({"size": None, "os_hash_value": None}), "neither how many bytes"
    ),
    "no-bytes": Case(UPLOAD, Spoil({"size": 0}), "holds 0 bytes"),
    "other-image": Case(PROPERTIES, Lie({"id": "another"}), UNREACHABLE),
    "deleted-meanwhile": Case(UPLOAD, Vanish(), GONE),
    "deleted-before": Case(PROPERTIES, Vanish(), GONE),
    "deleted-in-name": Case(UPLOAD, Spoil({"status": "deleted"}), GONE),
}


@pytest.mark.parametrize("name", CASES)
def test_fault(world: World, name: str) -> None:
    case = CASES[name]
    instance = world.add_instance()
    rule = world.glance.inject(*case.request, case.fault, case.nth, case.times)
    outcome = world.snapshot(instance)
    assert rule.met.is_set()
    if case.words is None:
        assert (outcome.message, outcome.event) == (None, "Success")
        assert world.is_good(instance, outcome)
    else:
        assert outcome.event == "Error"
        assert case.words in (outcome.message or "")
        assert world.status_of(outcome) in (None, "deleted")
        assert not world.is_remembered(outcome.image_id)
    assert outcome.seconds < 10
    world.assert_next_one_works(instance)


def test_it_is_not_there(world: World) -> None:
    """The image stays, and is remembered: nobody can say to whom it should be deleted."""
    instance = world.add_instance()
    began = time.monotonic()
    stall = world.glance.inject(*PROPERTIES, Stall("headers"))
    image_id = world.ask(instance).json["image_id"]
    assert stall.met.wait(SOON)
    with world.glance.away():
        outcome = world.outcome(instance, image_id, began)
    assert UNREACHABLE in (outcome.message or "")
    assert world.glance.images.records[image_id]["status"] == "queued"
    assert world.is_remembered(image_id)
    world.assert_next_one_works(instance)


def test_a_delete_that_it_only_pretends(world: World) -> None:
    """The same."""
    instance = world.add_instance()
    world.glance.inject(*UPLOAD, Refuse(413, "over quota"))
    world.glance.inject(*DELETE, Pretend())
    outcome = world.snapshot(instance)
    assert "over quota" in (outcome.message or "")
    assert world.status_of(outcome) == "queued"
    assert world.is_remembered(outcome.image_id)
    world.assert_next_one_works(instance)


REFUSED = {
    "503": (Refuse(503), 503),
    "403": (Refuse(403, "not here"), 403),
    "418": (Refuse(418, "a teapot"), 502),
    "half-a-record": (Truncate(announced=False), 202),
    "page": (Answer(b"<html></html>", content_type="text/html"), 503),
    "no-answer": (Stall("headers"), 503),
    "other-image": (Lie({"id": "another"}), 202),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_record_that_cannot_be_had(world: World, name: str) -> None:
    """The request is refused, and nothing is left that nobody looks for; or the record of the
    first try is found."""
    fault, code = REFUSED[name]
    before = set(world.glance.images.records)
    instance = world.add_instance()
    world.glance.inject(*CREATE, fault)
    began = time.monotonic()
    answer = world.ask(instance)
    assert answer.status_int == code
    if code == 202:
        outcome = world.outcome(instance, answer.json["image_id"], began)
        assert world.is_good(instance, outcome)
    else:
        assert world.request("GET", f"/servers/{instance.uuid}/os-instance-actions").json == {
            "instanceActions": []
        }
        left = set(world.glance.images.records) - before
        assert all(world.is_remembered(image_id) for image_id in left)
    assert time.monotonic() - began < SOON
    world.assert_next_one_works(instance)


def test_a_list_that_goes_in_a_circle_ends(world: World) -> None:
    image = world.glance.images.create({"name": "a"})
    world.glance.inject("GET", "images", Lie({"next": f"/v2/images?marker={image['id']}"}))
    with pytest.raises(exception.ImageServiceUnavailable, match="none of the Image API"):
        world.images.get_all(world.context, {"name": "a"})
