# SPDX-License-Identifier: Apache-2.0
"""The outages: what clients may be told, whether a backup is lost, and which methods are killed."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import requests

from tests.crash.checks import Before
from tests.crash.scenarios import SCENARIOS
from tests.crash.world import wait_until
from tests.outages import configurations, verdict
from tests.outages.clients import Crowd
from tests.outages.configurations import CONFIGURATIONS, share

BEFORE = Before("paused", True, False, "<domain/>", frozenset(), ("b1", "b2"))
SOON = 30


@dataclasses.dataclass
class Answer:
    """Of the API."""

    status_code: int
    text: str = ""

    @property
    def headers(self) -> dict[str, str]:
        return {"x-openstack-request-id": "req-1"}

    def json(self) -> dict[str, str]:
        return {"image_id": "i"}


class World:
    """One whose API answers as it is told to.

    :param asked: the code of who asks for a snapshot, and ``read`` of who reads; or an error.
    """

    def __init__(self, asked: int | Exception = 202, read: int | Exception = 200) -> None:
        self._asked, self._read = asked, read
        self.guests = {"writer": SimpleNamespace(uuid="u")}

    @property
    def client(self) -> World:
        return self

    def counter(self, _name: str) -> None:
        return None

    def post(self, *_arguments: Any) -> Answer:
        return self._answer(self._asked)

    def get(self, _path: str) -> Answer:
        return self._answer(self._read)

    def _answer(self, said: int | Exception) -> Answer:
        if isinstance(said, Exception):
            raise said
        return Answer(said)


class TestAnswers:
    def problems(self, *said: int | Exception, cut_off: bool = False) -> list[str]:
        world: Any = World(*said)
        crowd = Crowd(world, [SCENARIOS["stream-paused"]])
        crowd.begin()
        assert wait_until(lambda: crowd.reads >= 2 or not crowd._reader.is_alive(), SOON)
        # One of each.
        crowd.read[1:] = []
        return crowd.end(SOON, cut_off=cut_off)[:1]

    @pytest.mark.parametrize("code", [202, 409, 503])
    def test_who_asks_may_be_told(self, code: int) -> None:
        assert self.problems(code) == []

    @pytest.mark.parametrize("code", [200, 400, 401, 404, 410, 500, 502, 504])
    def test_who_asks_may_not_be_told(self, code: int) -> None:
        (said,) = self.problems(code)
        assert "stream-paused" in said
        assert "should be one of" in said

    def test_who_reads_may_be_told(self) -> None:
        assert self.problems(202, 503) == []

    @pytest.mark.parametrize("code", [202, 401, 404, 409, 500])
    def test_who_reads_may_not_be_told(self, code: int) -> None:
        (said,) = self.problems(202, code)
        assert "GET" in said
        assert "should be one of" in said

    @pytest.mark.parametrize(
        "said", [(requests.ConnectionError("x"),), (202, requests.ConnectionError("x"))]
    )
    def test_only_who_asks_what_was_killed_is_cut_off(self, said: Any) -> None:
        assert self.problems(*said, cut_off=True) == []
        (problem,) = self.problems(*said)
        assert "was cut off" in problem

    def test_nobody_may_be_left_to_wait(self) -> None:
        (said,) = self.problems(requests.ReadTimeout("x"), cut_off=True)
        assert "hung" in said

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
    def test_who_reads_must_not_end_before_that(self) -> None:
        (said,) = self.problems(202, ValueError("x"))
        assert "who reads all the while has ended" in said


class TestVerdict:
    """Of a world without guests, where nothing is left but backups."""

    def problems(self, directory: Path, *backups: str) -> list[str]:
        world: Any = SimpleNamespace(
            guests={}, images=list, requests_left=list, backups=lambda: [*backups],
            snapshots=directory / "snapshots", sockets=directory / "s",
            lab=SimpleNamespace(root=directory),
        )  # fmt: skip
        return verdict.of(world, {"still": BEFORE}, [])

    def test_nothing_is_lost(self, tmp_path: Path) -> None:
        assert self.problems(tmp_path, "b1", "b2") == []
        assert self.problems(tmp_path, "b2", "b3") == []

    def test_a_backup_is_lost(self, tmp_path: Path) -> None:
        assert self.problems(tmp_path, "b1") == ["backup b2 is lost"]
        assert self.problems(tmp_path) == ["backup b1 is lost", "backup b2 is lost"]


class TestConfigurations:
    def test_every_method_is_killed(self) -> None:
        found = {each.method for one in CONFIGURATIONS for each in one.scenarios}
        assert found == {each.method for each in SCENARIOS.values()}

    @pytest.mark.parametrize("one", CONFIGURATIONS, ids=lambda one: one.name)
    def test_a_host_has_the_options_of_one(self, one: configurations.Configuration) -> None:
        first = one.scenarios[0]
        assert all(each.options.items() <= first.options.items() for each in one.scenarios)
        assert {first.method, "offline"} == {each.method for each in one.scenarios}
        # Somebody always asks for another guest.
        assert len({each.guest for each in one.scenarios}) > 1

    @pytest.mark.parametrize("kills", range(13))
    def test_kills_are_shared_out(self, kills: int) -> None:
        count = range(len(CONFIGURATIONS))
        for victim in range(5):
            shares = [share(kills, victim, each) for each in count]
            assert sum(shares) == kills
            assert max(shares) - min(shares) <= 1

    def test_few_kills_of_many_victims_meet_every_configuration(self) -> None:
        for configuration in range(len(CONFIGURATIONS)):
            assert sum(share(1, victim, configuration) for victim in range(5)) >= 1
