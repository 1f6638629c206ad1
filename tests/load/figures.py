# SPDX-License-Identifier: Apache-2.0
"""What the rounds say, as lines of a table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Figure, percentile
from tests.load.asking import BUSY, Answer
from tests.load.checks import Outcome
from tests.load.plan import BURST, LATE, Plan
from tests.load.processes import Holding
from tests.load.rounds import LIST, ONE, Round

MIB = 1 << 20
# After the first round, which fills pools and caches.
MOST_GROWTH = 8 * MIB
# Connections come and go: a pool of the database may have one more than it had a round before.
MOST_FILES = 8
# Pools make threads when all that they have are busy; oslo.messaging's alone may have 64.
MOST_THREADS = 120
BIG = next(iter(BURST))


@dataclass(frozen=True)
class Judged:
    """A round with what became of it.

    :ivar held: by process, when the round had ended; ``None`` if the process had, too.
    """

    round: Round
    outcome: Outcome
    held: Mapping[str, Holding | None]


def figures(plan: Plan, rounds: Sequence[Judged]) -> list[Figure]:
    """All lines. What cannot be told because nothing was asked is not reached.

    Whether projects take turns is left out where the plan is too small to show it.
    """
    return [
        *_counts(plan, rounds),
        *_latencies(plan, rounds),
        *([_fairness(rounds)] if plan.crowded else []),
        *_flat(rounds),
    ]


def _counts(plan: Plan, rounds: Sequence[Judged]) -> Iterator[Figure]:
    asked = [each for judged in rounds for each in judged.round.asked]
    accepted = sum(each.answer.accepted for each in asked)
    refused: Counter[int] = sum((judged.outcome.refused for judged in rounds), Counter())
    early = sum(
        each.answer.status == BUSY and not each.answer.waited(plan.queue_seconds) for each in asked
    )
    whole = accepted + refused.total() == len(asked) == len(rounds) * (plan.requests + plan.late)
    by_status = ", ".join(f"{count} with {status}" for status, count in sorted(refused.items()))
    yield Figure(
        "answered",
        f"{len(rounds)} bursts of {plan.requests} createImages and {plan.late} late ones",
        f"{len(asked)} asked, {accepted} accepted, refused with a reason: {by_status or 'none'}",
        f"all answered, none with 503 within {plan.queue_seconds} s",
        whole and not early,
        {"asked": len(asked), "accepted": accepted, "refused": dict(refused)},
    )
    yield _taken_up(rounds)
    yield _late(plan, rounds)
    active = sum(judged.outcome.active for judged in rounds)
    failed = sum(judged.outcome.failed for judged in rounds)
    problems = [problem for judged in rounds for problem in judged.outcome.problems]
    yield Figure(
        "ended",
        "what was accepted",
        f"{active} ACTIVE with the right bytes, {failed} ended with a reason, "
        f"{accepted - active - failed} otherwise",
        "all ACTIVE",
        0 < active == accepted and not failed,
        {"active": active, "failed": failed},
    )
    yield Figure(
        "problems",
        "doubled, orphaned, stuck, left in the journal or a queue; tracebacks",
        str(len(problems)),
        "none",
        not problems,
        {"first": problems[:20]},
    )


def _taken_up(rounds: Sequence[Judged]) -> Figure:
    """One of an instance's requests meets it idle, whatever the others meet."""
    wanted = {
        (judged.round.number, each.wanted.instance)
        for judged in rounds
        for each in judged.round.burst
    }
    accepted = {
        (judged.round.number, each.wanted.instance)
        for judged in rounds
        for each in judged.round.burst
        if each.answer.accepted
    }
    return Figure(
        "taken_up",
        "servers that were asked for in a burst, and had a request accepted",
        f"{len(accepted)} of {len(wanted)}",
        "all",
        0 < len(wanted) == len(accepted),
        {"asked": len(wanted), "accepted": len(accepted)},
    )


def _late(plan: Plan, rounds: Sequence[Judged]) -> Figure:
    """Nobody else asks for the servers of the late project."""
    late = [each for judged in rounds for each in judged.round.late]
    accepted = sum(each.answer.accepted for each in late)
    active = sum(len(judged.outcome.seconds[LATE]) for judged in rounds)
    return Figure(
        "late",
        "late createImages",
        f"{accepted} of {len(late)} accepted, {active} ACTIVE",
        "all",
        len(late) == accepted == active == plan.late * len(rounds),
        {"asked": len(late), "accepted": accepted, "active": active},
    )


def _latencies(plan: Plan, rounds: Sequence[Judged]) -> Iterator[Figure]:
    burst = [each.answer for judged in rounds for each in judged.round.burst]
    late = [each.answer for judged in rounds for each in judged.round.late]
    yield _latency("post_burst", f"POST action, {plan.requests} at once", burst, plan)
    for name, what in (("list", LIST), ("one", ONE)):
        reads = [one for judged in rounds for one in judged.round.reads_in_burst.get(what, [])]
        yield _latency(f"get_{name}_burst", f"{what}, while those are answered", reads, plan)
    title = "all places taken"
    yield _latency("post_busy", f"POST action, {title}", late, plan)
    for name, what in (("list", LIST), ("one", ONE)):
        reads = [one for judged in rounds for one in judged.round.reads_after.get(what, [])]
        yield _latency(f"get_{name}_busy", f"{what}, {title}", reads, plan)


def _latency(name: str, title: str, answers: Sequence[Answer], plan: Plan) -> Figure:
    seconds = [answer.seconds for answer in answers]
    if not seconds:
        return Figure(name, title, "nothing was asked", "that something is", False)
    half, most = percentile(seconds, 50), percentile(seconds, 99)
    return Figure(
        name,
        title,
        f"p50 {_said(half)}, p99 {_said(most)} ({len(seconds)} requests)",
        f"all within {plan.answer_seconds:g} s",
        max(seconds) <= plan.answer_seconds,
        {"p50": round(half, 4), "p99": round(most, 4), "max": round(max(seconds), 4)},
    )


def _said(seconds: float) -> str:
    return f"{seconds * 1e3:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _fairness(rounds: Sequence[Judged]) -> Figure:
    """The late project comes last; in a queue without projects it would be served last, too.

    It then waits for about as long as the longest of the others: not to be behind them says
    nothing, to wait for half as long does.
    """
    medians, longest, told = {}, {}, True
    for project in (*BURST, LATE):
        seconds = [one for judged in rounds for one in judged.outcome.seconds[project]]
        told &= bool(seconds)
        medians[project] = statistics.median(seconds) if seconds else 0.0
        longest[project] = max(seconds, default=0.0)
    measured = "; ".join(
        f"{project} {medians[project]:.0f} s, at most {longest[project]:.0f} s"
        for project in medians
    )
    return Figure(
        "fairness",
        f"from the answer to ACTIVE, by project ({LATE} asks last)",
        measured,
        f"the longest of {LATE} is less than half of the longest of {BIG}",
        told and longest[LATE] < longest[BIG] / 2,
        {"medians": medians, "longest": longest},
    )


def _flat(rounds: Sequence[Judged]) -> Iterator[Figure]:
    for process in rounds[0].held:
        seen = [judged.held[process] for judged in rounds]
        title = f"{process}: RSS, files, threads after each round"
        held = [each for each in seen if each is not None]
        if len(held) < len(seen):
            after = f"it had ended after {len(seen) - len(held)} rounds"
            yield Figure(f"flat_{process}", title, after, "it lives", False)
            continue
        grown = held[-1].rss - held[0].rss
        files = [each.files for each in held]
        threads = [each.threads for each in held]
        flat = (
            grown <= MOST_GROWTH
            and files[-1] <= files[0] + MOST_FILES
            and max(threads) <= MOST_THREADS
        )
        yield Figure(
            f"flat_{process}",
            title,
            f"{_list(each.rss / MIB for each in held)} MiB; {_list(files)}; {_list(threads)}",
            f"at most {MOST_GROWTH // MIB} MiB and {MOST_FILES} files more than after the first, "
            f"never {MOST_THREADS} threads",
            flat,
            {"rss": [each.rss for each in held], "files": files, "threads": threads},
        )


def _list(values: object) -> str:
    return ", ".join(f"{value:.0f}" for value in values)  # type: ignore[attr-defined]
