# SPDX-License-Identifier: Apache-2.0
"""Which backups go, and which stay."""

import concurrent.futures
import threading
from collections.abc import Container
from typing import Any

import pytest

from nova_snap import exception
from nova_snap.compute.backup import Rotation, rotate_backups
from nova_snap.context import RequestContext
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import PROJECT

SOON = 20
INSTANCE = "5f0f1d5e-64f1-4f4c-9d1c-2f6b5a7c3d03"
DOWN = exception.ImageServiceUnavailable(endpoint="http://10.0.0.1", reason="refused")
FORBIDDEN = exception.ImageForbidden(image_id="i", reason="it is protected")


@pytest.fixture
def asker() -> RequestContext:
    return RequestContext(user_id="kim", project_id=PROJECT, overwrite=False)


class Shelf:
    """Backups of one instance, the oldest first."""

    def __init__(self, asker: RequestContext) -> None:
        self.asker = asker
        self.images = MemoryImages()

    def add(self, name: str, hour: int, **values: Any) -> str:
        image_id: str = self.images.create(self.asker, {"name": name})["id"]
        given = {
            "image_type": "backup",
            "backup_type": "daily",
            "instance_uuid": INSTANCE,
            "status": "active",
            "created_at": f"2026-01-01T{hour:02}:00:00Z",
            **values,
        }
        self.images.records[image_id].update(given)
        return image_id

    def names(self) -> set[str]:
        return {record["name"] for record in self.images.records.values()}

    def rotate(self, new: str, keep: int, in_hand: Container[str] = ()) -> Any:
        rotation = Rotation("daily", keep)
        return rotate_backups(self.asker, self.images, INSTANCE, new, rotation, in_hand)


@pytest.fixture
def shelf(asker: RequestContext) -> Shelf:
    return Shelf(asker)


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (0, set()),
        (1, {"new"}),
        (2, {"new", "b2"}),
        (3, {"new", "b2", "b1"}),
        (10**12, {"new", "b2", "b1", "b0"}),
    ],
)
def test_the_newest_stay(shelf: Shelf, keep: int, left: set[str]) -> None:
    # Not in the order of their age: an image service may answer in any.
    for hour in (1, 0, 2):
        shelf.add(f"b{hour}", hour)
    new = shelf.add("new", 3)
    rotated = shelf.rotate(new, keep)
    assert shelf.names() == left
    assert len(rotated.deleted) == 4 - len(left)
    assert rotated.left == {}


def test_what_is_newer_is_left_to_its_own_rotation(shelf: Shelf) -> None:
    """The next backup may be whole before the rotation of this one has seen the list."""
    for hour in range(2):
        shelf.add(f"b{hour}", hour)
    late = shelf.add("late", 2)
    new = shelf.add("new", 3)
    shelf.rotate(late, 2)
    assert shelf.names() == {"b1", "late", "new"}
    shelf.rotate(new, 1)
    assert shelf.names() == {"new"}
    shelf.add("newer", 4)
    shelf.rotate(new, 0)
    assert shelf.names() == {"newer"}


def test_two_rotations_at_once_leave_the_newest(shelf: Shelf) -> None:
    """Each has seen both backups before the other deletes one."""
    older, newer = shelf.add("older", 0), shelf.add("newer", 1)
    both_have_seen = threading.Barrier(2, timeout=SOON)
    listed = shelf.images.get_all

    def get_all(*args: Any) -> Any:
        found = listed(*args)
        both_have_seen.wait()
        return found

    shelf.images.get_all = get_all  # type: ignore[method-assign]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        rotations = [pool.submit(shelf.rotate, each, 1) for each in (older, newer)]
        rotated = [each.result(SOON) for each in rotations]
    assert shelf.names() == {"newer"}
    assert [each.deleted for each in rotated] == [[], [older]]


def test_of_the_same_second_only_what_has_ended_is_older(shelf: Shelf) -> None:
    """The image service's times have whole seconds."""
    ended = shelf.add("ended", 1)
    running = shelf.add("running", 1)
    new = shelf.add("new", 1)
    assert shelf.rotate(new, 1, in_hand={new, running}).deleted == [ended]
    assert shelf.rotate(running, 1, in_hand={new, running}).deleted == []
    assert shelf.names() == {"running", "new"}


def test_a_backup_that_is_not_listed_deletes_none(
    shelf: Shelf, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody was faster: then nobody knows which are older."""
    new = shelf.add("new", 1)
    shelf.add("newer", 2)
    shelf.images.delete(shelf.asker, new)
    assert shelf.rotate(new, 0).deleted == []
    assert shelf.names() == {"newer"}
    assert f"Backup {new} is not among" in caplog.text


@pytest.mark.parametrize(
    "values",
    [
        pytest.param({"backup_type": "weekly"}, id="another-type"),
        pytest.param({"instance_uuid": "another"}, id="another-instance"),
        pytest.param({"image_type": "snapshot"}, id="snapshot"),
        pytest.param({"owner": "another"}, id="another-projects"),
        pytest.param({"status": "queued"}, id="never-whole"),
        pytest.param({"status": "saving"}, id="not-whole-yet"),
        pytest.param({"status": "deactivated"}, id="taken-out-of-use"),
    ],
)
def test_what_is_none_of_these_backups_neither_goes_nor_counts(
    shelf: Shelf, values: dict[str, Any]
) -> None:
    shelf.add("old", 0)
    shelf.add("other", 1, **values)
    new = shelf.add("new", 2)
    shelf.rotate(new, 2)
    assert shelf.names() == {"old", "other", "new"}
    shelf.rotate(new, 0)
    assert shelf.names() == {"other"}


def test_an_image_service_that_ignores_the_filters_loses_nothing(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.add("other", 0, instance_uuid="another")
    shelf.add("no-backup", 0, image_type="snapshot")
    new = shelf.add("new", 1)
    monkeypatch.setattr(shelf.images, "get_all", lambda *_: list(shelf.images.records.values()))
    shelf.rotate(new, 1)
    assert shelf.names() == {"other", "no-backup", "new"}


@pytest.mark.parametrize("error", [FORBIDDEN, DOWN], ids=["protected", "down"])
def test_one_that_cannot_be_deleted_does_not_save_the_others(
    shelf: Shelf, error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    ids = [shelf.add(f"b{hour}", hour) for hour in range(4)]
    shelf.images.fail[f"delete {ids[1]}"] = error
    rotated = shelf.rotate(ids[3], 1)
    assert shelf.names() == {"b3", "b1"}
    assert list(rotated.left) == [ids[1]]
    assert f"Backup {ids[1]} cannot be deleted" in caplog.text
    assert "10.0.0.1" not in str(rotated)
    assert str(rotated).startswith(f"backups deleted: 2; image {ids[1]} stays: ")


def test_one_that_is_gone_already_is_deleted(shelf: Shelf) -> None:
    gone = shelf.add("b0", 0)
    new = shelf.add("new", 1)
    shelf.images.fail[f"delete {gone}"] = exception.ImageNotFound(image_id=gone)
    assert shelf.rotate(new, 1).left == {}


def test_an_image_service_that_does_not_answer_is_an_error(shelf: Shelf) -> None:
    shelf.images.fail["get_all"] = DOWN
    with pytest.raises(exception.ImageServiceUnavailable):
        shelf.rotate("new", 1)


@pytest.mark.parametrize(
    ("backup_type", "keep"), [(None, 1), ("daily", -1), ("daily", "1"), ("daily", True)]
)
def test_a_message_must_make_sense(backup_type: Any, keep: Any) -> None:
    with pytest.raises(exception.InvalidRotation):
        Rotation(backup_type, keep).check()


@pytest.mark.parametrize(("backup_type", "keep"), [("", 0), ("daily", 10**30)])
def test_what_a_message_may_ask_for(backup_type: str, keep: int) -> None:
    Rotation(backup_type, keep).check()
