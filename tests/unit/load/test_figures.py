# SPDX-License-Identifier: Apache-2.0
"""The load run's verdict: what works reaches every figure, and what does nothing does not."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from tests.load import figures, plan, rounds
from tests.load.asking import Answer
from tests.load.checks import Outcome
from tests.load.figures import Judged
from tests.load.plan import LATE, Plan, Wanted
from tests.load.processes import Holding
from tests.load.rounds import LIST, ONE, Asked, Round

PLAN = Plan()
OWNED = {
    owner: [f"{owner}-{number}" for number in range(count)] for owner, count in PLAN.owned.items()
}
HELD = {"api": Holding(rss=1 << 20, files=9, threads=22)}
READ = Answer(200, 0.1, 0.0)
# From the answer to ACTIVE, as measured.
SECONDS = {"shop": 78.0, "bank": 58.0, "club": 28.0, LATE: 16.0}

Answering = Callable[[Wanted, bool], Answer]


def answer(status: int, seconds: float = 0.1) -> Answer:
    body = {"image_id": "i"} if status == 202 else {"fault": {"message": "no"}}
    return Answer(status, seconds, 0.0, body=body)


def as_it_should(_wanted: Wanted, first: bool) -> Answer:
    """The first request of a server is accepted, the others meet it busy."""
    return answer(202 if first else 409)


def judged(number: int, answering: Answering, *, active: bool = True, **times: float) -> Judged:
    """A round with what came of it, when nothing else is wrong.

    :param active: what was accepted has become an image, or else ended with a reason.
    :param times: seconds to ACTIVE by project, where not as measured.
    """
    made = Round(number, began=0.0)
    seen: set[str] = set()
    outcome = Outcome()
    for wanted in (*plan.burst(PLAN, OWNED, number), *plan.late(OWNED, number)):
        asked = Asked(wanted, answering(wanted, wanted.instance not in seen))
        seen.add(wanted.instance)
        (made.late if wanted.project == LATE else made.burst).append(asked)
        if asked.answer.accepted and active:
            outcome.active += 1
            outcome.seconds[wanted.project].append({**SECONDS, **times}[wanted.project])
        elif asked.answer.accepted:
            outcome.failed += 1
        else:
            outcome.refused[asked.answer.status] += 1
    made.reads_in_burst = {LIST: [READ], ONE: [READ]}
    made.reads_after = {LIST: [READ], ONE: [READ]}
    return Judged(made, outcome, HELD)


def missed(run: list[Judged], given: Plan = PLAN) -> set[str]:
    """The figures that are not reached, whatever they say of themselves."""
    return {figure.name for figure in figures.figures(given, run) if figure.reached is not True}


def four(answering: Answering = as_it_should, **more: Any) -> list[Judged]:
    return [judged(number, answering, **more) for number in range(1, 5)]


def test_a_run_that_works() -> None:
    assert missed(four()) == set()


def test_all_are_refused_with_503() -> None:
    found = missed(four(lambda _wanted, _first: answer(503)))
    assert {"answered", "taken_up", "late", "ended", "fairness"} <= found


def test_all_are_refused_with_503_after_the_queue_timeout() -> None:
    found = missed(four(lambda _wanted, _first: answer(503, PLAN.queue_seconds)))
    assert {"taken_up", "late", "ended", "fairness"} <= found


def test_all_are_refused_with_409() -> None:
    assert {"taken_up", "late", "ended"} <= missed(four(lambda _wanted, _first: answer(409)))


def test_all_are_accepted_and_end_with_a_reason() -> None:
    found = missed(four(lambda _wanted, _first: answer(202), active=False))
    assert {"late", "ended", "fairness"} <= found


def test_one_ends_with_a_reason() -> None:
    run = four()
    run[2].outcome.failed, run[2].outcome.active = 1, run[2].outcome.active - 1
    assert missed(run) == {"ended"}


def test_one_server_has_no_request_accepted() -> None:
    poor = OWNED["shop"][3]
    run = four(lambda wanted, first: answer(202 if first and wanted.instance != poor else 409))
    assert missed(run) == {"taken_up"}


def test_one_503_comes_early() -> None:
    poor = OWNED["club"][0]

    def refuse(wanted: Wanted, first: bool) -> Answer:
        return answer(503) if not first and wanted.instance == poor else as_it_should(wanted, first)

    assert missed(four(refuse)) == {"answered"}


def test_one_503_came_after_the_queue_timeout() -> None:
    poor = OWNED["club"][0]

    def refuse(wanted: Wanted, first: bool) -> Answer:
        late = not first and wanted.instance == poor
        return answer(503, PLAN.queue_seconds) if late else as_it_should(wanted, first)

    assert missed(four(refuse)) == set()


def test_one_late_request_is_refused() -> None:
    poor = OWNED[LATE][0]
    run = four(lambda wanted, first: answer(202 if first and wanted.instance != poor else 409))
    assert missed(run) == {"late"}


def test_one_queue_for_all() -> None:
    # As FIFO would have it: who comes last ends last, or a moment before the last.
    assert missed(four(desk=77.0)) == {"fairness"}
    assert missed(four(desk=40.0)) == {"fairness"}
    assert missed(four(desk=38.0)) == set()


def test_a_small_plan_says_nothing_of_fairness() -> None:
    small = Plan(instances=40, requests=100)
    assert not small.crowded
    assert "fairness" not in {each.name for each in figures.figures(small, four())}
    assert PLAN.crowded


def test_nothing_was_read() -> None:
    run = four()
    for each in run:
        each.round.reads_in_burst = {LIST: [READ]}
        each.round.reads_after = {}
    assert missed(run) == {"get_one_burst", "get_list_busy", "get_one_busy"}


def test_a_process_has_ended() -> None:
    run = four()
    run[2:] = [Judged(each.round, each.outcome, {"api": None}) for each in run[2:]]
    assert missed(run) == {"flat_api"}


class Reading:
    """An installation of which nothing can be read."""

    instances = OWNED
    plan = PLAN

    async def get(self, _path: str, _token: str) -> Answer:
        raise RuntimeError("half of a JSON")


def test_what_stops_the_reader_is_raised() -> None:
    async def read() -> None:
        installation: Any = Reading()
        async with rounds._reading(installation, installation, {}):
            await asyncio.sleep(0.01)

    with pytest.raises(RuntimeError, match="half of a JSON"):
        asyncio.run(read())


def test_counters_of_refusals() -> None:
    # The helper of this module counts as checks.bad_answers does.
    assert four()[0].outcome.refused == Counter({409: PLAN.requests - PLAN.instances + PLAN.late})
