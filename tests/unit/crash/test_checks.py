# SPDX-License-Identifier: Apache-2.0
"""The checks after a kill: each sees what it is there for."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.crash import checks, matrix, victim
from tests.crash.checks import Before
from tests.crash.scenarios import SCENARIOS
from tests.crash.world import wait_until
from tests.fixtures.service_process import ServiceProcess
from tests.outages import verdict
from tests.outages.clients import Asked

PLAIN, BACKUP = SCENARIOS["stream-paused"], SCENARIOS["backup"]
BEFORE = Before("paused", True, False, "<domain/>", frozenset({"req-0"}), ("b1", "b2"))
STEP = {"event": "compute_snapshot_instance", "finish_time": "2026-11-29T12:00:00"}


@dataclasses.dataclass
class Answer:
    """Of the API."""

    content: dict[str, Any]

    def json(self) -> dict[str, Any]:
        return self.content

    def raise_for_status(self) -> None:
        pass


@dataclasses.dataclass(frozen=True)
class Guest:
    """Of the world."""

    name: str = "still"
    uuid: str = "u"


class World:
    """What is left after a kill, as far as these checks ask.

    :ivar said: the message of each request's action, by request id.
    """

    def __init__(self, *images: tuple[str, str], **said: str | None) -> None:
        self.guests = {"still": Guest()}
        self.said = {name.replace("_", "-"): message for name, message in said.items()}
        self.steps = [STEP]
        self.whole = ["b1", "b2"]
        self._images = [
            {"id": image_id, "name": name, "status": "active"} for image_id, name in images
        ]

    @property
    def client(self) -> World:
        return self

    def get(self, path: str) -> Answer:
        message = self.said[path.rpartition("/")[2]]
        return Answer({"instanceAction": {"message": message, "events": self.steps}})

    def actions(self, _guest: Guest) -> list[dict[str, Any]]:
        return [{"request_id": request_id} for request_id in (*self.said, "req-0")]

    def images(self, **wanted: str) -> list[dict[str, Any]]:
        return [i for i in self._images if all(i[key] == value for key, value in wanted.items())]

    def backups(self) -> list[str]:
        return self.whole


class TestReason:
    def problems(self, world: Any, image_id: str | None = "i", scenario: Any = PLAIN) -> list[str]:
        return checks.reason(world, scenario, BEFORE, "name", image_id)

    @pytest.mark.parametrize("image_id", ["i", None])
    def test_an_image_or_a_reason(self, image_id: str | None) -> None:
        assert self.problems(World(("i", "name"), req_1=None), image_id) == []
        assert self.problems(World(req_1="restarted"), image_id) == []

    @pytest.mark.parametrize("image_id", ["i", None])
    def test_neither(self, image_id: str | None) -> None:
        (said,) = self.problems(World(("i", "another's"), req_1=None), image_id)
        assert said == "there is no image, and no reason why"

    def test_both(self) -> None:
        both = World(("i", "name"), req_1="restarted")
        assert self.problems(both) == ["image i is there, and yet: restarted"]
        # Its message is about those that were not rotated.
        assert self.problems(both, scenario=BACKUP) == []

    def test_two_images(self) -> None:
        twice = World(("i", "name"), ("j", "name"), req_1=None)
        assert self.problems(twice) == ["it has become 2 images"]

    def test_another_image_than_promised(self) -> None:
        assert len(self.problems(World(("j", "name"), req_1=None))) == 1

    def test_no_action(self) -> None:
        assert self.problems(World(), None) == []
        assert len(self.problems(World())) == 1
        assert len(self.problems(World(("i", "name")), None)) == 1

    def test_two_actions(self) -> None:
        assert len(self.problems(World(("i", "name"), req_1=None, req_2=None))) == 1

    def test_a_step_that_has_not_ended(self) -> None:
        world = World(("i", "name"), req_1=None)
        world.steps = [STEP, {**STEP, "finish_time": None}]
        assert len(self.problems(world)) == 1


class TestBackups:
    def rotated(self, *left: str, scenario: Any = BACKUP) -> bool:
        world: Any = World()
        world.whole = [*left]
        return not checks.rotated(world, scenario, ["b1", "b2"], "b3")

    def test_exactly_the_newest_stay(self) -> None:
        assert self.rotated("b2", "b3")
        assert not self.rotated("b1", "b2", "b3")
        assert not self.rotated("b3")
        assert not self.rotated("b1", "b3")
        assert not self.rotated()

    def test_another_snapshot_leaves_them_alone(self) -> None:
        assert self.rotated("b1", "b2", scenario=PLAIN)
        assert not self.rotated("b2", scenario=PLAIN)

    def kept(self, *left: str) -> bool:
        world: Any = World()
        world.whole = [*left]
        return not checks.kept(world, BEFORE)

    def test_a_rotation_that_was_killed_loses_none(self) -> None:
        assert self.kept("b1", "b2")
        assert self.kept("b1", "b2", "b3")
        assert self.kept("b2", "b3")
        assert not self.kept("b1", "b3")
        assert not self.kept("b2")
        assert not self.kept("b3")


class TestStrays:
    @pytest.fixture
    def world(self, tmp_path: Path) -> Any:
        lab = SimpleNamespace(root=tmp_path)
        return SimpleNamespace(lab=lab, snapshots=tmp_path / "snapshots", sockets=tmp_path / "s")

    @pytest.fixture
    def start(self) -> Iterator[Callable[..., Any]]:
        """Starts what has such a command line and environment, and does nothing."""
        with contextlib.ExitStack() as stack:

            def start(name: str, argument: str, **more: str) -> Any:
                made = subprocess.Popen(
                    [name, "-c", "import time; time.sleep(600)", argument],
                    executable=sys.executable, env={**os.environ, **more},
                )  # fmt: skip
                stack.callback(made.wait)
                stack.callback(made.kill)
                return made

            yield start

    def test_what_a_service_has_left_is_found_and_ended(
        self, tmp_path: Path, world: Any, start: Callable[..., Any]
    ) -> None:
        disk = f"{tmp_path}/disk"
        names = ["/usr/bin/qemu-nbd", "qemu-img", "setpriv", "qemu-system-x86_64"]
        made = {name: start(name, disk) for name in names}
        made["python"] = start("python", disk, **{victim.DIRECTORY_ENV: str(tmp_path)})
        made["vgs"] = start("vgs", disk, **{victim.DIRECTORY_ENV: f"{tmp_path}/api"})
        said = sorted(checks.nothing_on_the_host(world))
        wanted = sorted(f"process {each.pid} is left: {name}" for name, each in made.items())
        assert [each.partition(" -c")[0] for each in said] == wanted
        checks.sweep(world)
        assert {each.wait(30) for each in made.values()} == {-signal.SIGKILL}

    def test_what_somebody_else_runs_is_left_alone(
        self, tmp_path: Path, world: Any, start: Callable[..., Any]
    ) -> None:
        log, another = f"{tmp_path}/log", {victim.DIRECTORY_ENV: "/another"}
        made = [start("tail", log), start("vi", log, **another), start("qemu-nbd", "/another")]
        assert checks.nothing_on_the_host(world) == []
        checks.sweep(world)
        assert [each.poll() for each in made] == [None] * 3


class TestWhoGotNoAnswer:
    def problems(self, world: Any, *names: str) -> list[str]:
        asked = [Asked(PLAIN, name) for name in names]
        return verdict._untold(world, world.guests["still"], [*world.said], asked)

    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(checks, "SOON", 0)

    def test_each_has_an_image_or_a_reason(self) -> None:
        world = World(("i", "a"), req_1=None, req_2="restarted")
        assert self.problems(world, "a", "b") == []

    def test_neither(self) -> None:
        assert len(self.problems(World(req_1=None, req_2="restarted"), "a", "b")) == 1

    def test_both(self) -> None:
        assert len(self.problems(World(("i", "a"), req_1="restarted"), "a")) == 1


class TestOwnEnd:
    def end(self, tmp_path: Path, code: str) -> list[str]:
        service = ServiceProcess("it", [sys.executable, "-c", code], tmp_path / "log")
        service.start()
        ended = wait_until(lambda: not service.running, 0.5 if "sleep" in code else 30)
        assert ended == ("sleep" not in code)
        found = matrix._own_end(service)
        service.kill()
        return found

    def test_killed(self, tmp_path: Path) -> None:
        assert self.end(tmp_path, "import os; os.kill(os.getpid(), 9)") == []

    def test_alive(self, tmp_path: Path) -> None:
        assert self.end(tmp_path, "import time; time.sleep(60)") == []

    @pytest.mark.parametrize("code", ["pass", "raise SystemExit(3)", "import os; os.abort()"])
    def test_by_itself(self, tmp_path: Path, code: str) -> None:
        (said,) = self.end(tmp_path, code)
        assert "ended by itself" in said
