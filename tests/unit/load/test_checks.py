# SPDX-License-Identifier: Apache-2.0
"""The load run's own checks: each sees what it is there for."""

import asyncio
import json
import socket
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.load import checks, plan
from tests.load.asking import Answer, Asker
from tests.load.plan import Plan, Wanted
from tests.load.rounds import Asked, Round

PLAN = Plan()
HEADERS = {"x-openstack-request-id": "req-1"}
REFUSAL = {"conflictingRequest": {"code": 409, "message": "it is busy"}}
BUSY = {"serviceUnavailable": {"code": 503, "message": "too many"}}
ACTION = {"request_id": "req-1", "start_time": "2026-11-23T12:00:00.000000", "message": None}


def asked(status: int = 202, body: Any = None, **changed: Any) -> Asked:
    values = {"seconds": 0.1, "ended": 0.0, "headers": HEADERS, **changed}
    body = {"image_id": "image-1"} if body is None else body
    return Asked(Wanted("shop", "server-1", "name-1"), Answer(status, body=body, **values))


def made(*answers: Asked) -> Round:
    return Round(1, began=0.0, burst=list(answers))


class TestAnswers:
    def problems(self, *answers: Asked) -> list[str]:
        return list(checks.bad_answers(made(*answers), PLAN, Counter()))

    def test_accepted_and_refused(self) -> None:
        refused: Counter[int] = Counter()
        waited = asked(503, BUSY, seconds=PLAN.queue_seconds)
        both = made(asked(), asked(409, REFUSAL), waited)
        assert list(checks.bad_answers(both, PLAN, refused)) == []
        assert refused == {409: 1, 503: 1}

    @pytest.mark.parametrize(
        "bad",
        [
            asked(500, {"computeFault": {"code": 500, "message": "oh"}}),
            asked(409, {"conflictingRequest": {"code": 409, "message": ""}}),
            asked(409, "it is busy"),
            asked(0, error="ConnectionResetError"),
            asked(headers={}),
            asked(seconds=PLAN.answer_seconds + 1),
            asked(403, {"forbidden": {"code": 403, "message": "quota"}}),
            asked(503, BUSY, seconds=PLAN.queue_seconds - 1),
        ],
        ids=[
            "500",
            "no reason",
            "no fault",
            "reset",
            "no request id",
            "slow",
            "403",
            "503 at once",
        ],
    )
    def test_others(self, bad: Asked) -> None:
        assert len(self.problems(asked(), bad)) == 1

    def test_a_get_that_is_refused_while_nothing_else_waits(self) -> None:
        refusal = asked(503, BUSY, seconds=PLAN.queue_seconds).answer
        in_burst = Round(1, reads_in_burst={"GET": [refusal]})
        assert list(checks.bad_answers(in_burst, PLAN, Counter())) == []
        after = Round(1, reads_after={"GET": [refusal]})
        assert len(list(checks.bad_answers(after, PLAN, Counter()))) == 1

    @pytest.mark.parametrize("status", [409, 503])
    def test_a_get_that_is_refused_at_once(self, status: int) -> None:
        in_burst = Round(1, reads_in_burst={"GET": [asked(status, BUSY).answer]})
        assert len(list(checks.bad_answers(in_burst, PLAN, Counter()))) == 1


class TestImages:
    def problems(self, images: Mapping[str, str], *answers: Asked) -> list[str]:
        records = {key: {"name": name, "status": "active"} for key, name in images.items()}
        return list(checks.unwanted_images(made(*answers), records))

    def test_one_for_each(self) -> None:
        assert self.problems({"image-1": "name-1"}, asked()) == []

    def test_an_orphan(self) -> None:
        assert len(self.problems({"image-1": "name-1", "image-2": "name-2"}, asked())) == 1

    def test_one_of_a_request_that_was_refused(self) -> None:
        assert len(self.problems({"image-1": "name-1"}, asked(409, REFUSAL))) == 1

    def test_one_for_two(self) -> None:
        assert len(self.problems({"image-1": "name-1"}, asked(), asked())) == 1

    def test_two_for_one(self) -> None:
        problems = self.problems({"image-1": "name-1", "image-2": "name-1"}, asked())
        assert any("2 images are called name-1" in problem for problem in problems)


class TestActions:
    def problems(self, action: Mapping[str, Any], *answers: Asked) -> list[str]:
        return list(checks.unwanted_actions(made(*answers), {"server-1": [action]}))

    def test_one_that_was_accepted(self) -> None:
        assert self.problems(ACTION, asked()) == []

    def test_one_that_nobody_has_asked_for(self) -> None:
        assert len(self.problems({**ACTION, "request_id": "req-2"}, asked())) == 1

    def test_one_that_was_refused_and_goes_on(self) -> None:
        assert len(self.problems(ACTION, asked(409, REFUSAL))) == 1
        assert self.problems({**ACTION, "message": "refused"}, asked(409, REFUSAL)) == []


class TestAsker:
    @pytest.fixture
    def say(self) -> Iterator[Any]:
        """What a server says to each client, before it hangs up."""
        said: dict[str, bytes] = {}
        listener = socket.create_server(("127.0.0.1", 0))

        def serve() -> None:
            client, _ = listener.accept()
            client.recv(65536)
            client.sendall(said["answer"])
            client.close()

        def prepare(answer: bytes) -> Answer:
            said["answer"] = answer
            server = threading.Thread(target=serve, daemon=True)
            server.start()
            found = asyncio.run(Asker(listener.getsockname()[1], 10).get("/", "kim"))
            server.join(10)
            return found

        yield prepare
        listener.close()

    def test_a_whole_answer(self, say: Any) -> None:
        body = json.dumps(REFUSAL).encode()
        head = b"HTTP/1.1 409 Conflict\r\nContent-Type: application/json\r\nContent-Length: %d\r\n"
        found = say(head % len(body) + b"\r\n" + body)
        assert (found.status, found.reason, found.refused) == (409, "it is busy", True)

    def test_half_an_answer(self, say: Any) -> None:
        found = say(b"HTTP/1.1 202 Accepted\r\nContent-Length: 10\r\n\r\n12345")
        assert (found.status, found.accepted) == (0, False)
        assert "no whole answer" in found.error

    def test_no_answer(self, say: Any) -> None:
        assert say(b"").status == 0


class TestPlan:
    def test_every_instance_has_an_owner_and_every_request_a_name(self) -> None:
        made = Plan()
        assert sum(made.owned.values()) == made.instances
        uuids = {
            owner: [f"{owner}-{number}" for number in range(count)]
            for owner, count in made.owned.items()
        }
        wanted = plan.burst(made, uuids, 1)
        assert len({each.name for each in wanted}) == made.requests == len(wanted)
        asked_for = {each.instance for each in wanted + plan.late(uuids, 1)}
        assert asked_for == {uuid for each in uuids.values() for uuid in each}

    @pytest.mark.parametrize("bad", [{"instances": 11}, {"requests": 0}, {"delay": -1.0}])
    def test_too_little(self, bad: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"enough|negative"):
            Plan(**bad)
