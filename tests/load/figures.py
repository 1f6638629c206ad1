# SPDX-License-Identifier: Apache-2.0
"""What the rounds say, as lines of a table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.figures import Figure, percentile
from tests.load.asking import Answer
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

    :ivar held: by process, when it had ended.
    """

    round: Round
    outcome: Outcome
    held: Mapping[str, Holding]


def figures(plan: Plan, rounds: Sequence[Judged]) -> list[Figure]:
    """All lines."""
    return [
        *_counts(plan, rounds),
        *_latencies(plan, rounds),
        _fairness(rounds),
        *_flat(rounds),
    ]


def _counts(plan: Plan, rounds: Sequence[Judged]) -> Iterator[Figure]:
    asked = [each for judged in rounds for each in judged.round.asked]
    accepted = sum(each.answer.accepted for each in asked)
    refused: Counter[int] = sum((judged.outcome.refused for judged in rounds), Counter())
    whole = accepted + refused.total() == len(asked)
    by_status = ", ".join(f"{count} with {status}" for status, count in sorted(refused.items()))
    yield Figure(
        "answered",
        f"{len(rounds)} bursts of {plan.requests} createImages and {plan.late} late ones",
        f"{len(asked)} asked, {accepted} accepted, refused with a reason: {by_status or 'none'}",
        "all answered",
        whole,
        {"asked": len(asked), "accepted": accepted, "refused": dict(refused)},
    )
    active = sum(judged.outcome.active for judged in rounds)
    failed = sum(judged.outcome.failed for judged in rounds)
    problems = [problem for judged in rounds for problem in judged.outcome.problems]
    yield Figure(
        "ended",
        "what was accepted",
        f"{active} ACTIVE with the right bytes, {failed} ended with a reason, "
        f"{accepted - active - failed} otherwise",
        "none otherwise",
        active + failed == accepted,
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
        return Figure(name, title, "nothing was asked")
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
    """The late project comes last; in a queue without projects it would be served last, too."""
    medians, longest = {}, {}
    for project in (*BURST, LATE):
        seconds = [one for judged in rounds for one in judged.outcome.seconds[project]]
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
        f"{LATE} is not behind {BIG}",
        longest[LATE] <= longest[BIG],
        {"medians": medians, "longest": longest},
    )


def _flat(rounds: Sequence[Judged]) -> Iterator[Figure]:
    for process in rounds[0].held:
        held = [judged.held[process] for judged in rounds]
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
            f"{process}: RSS, files, threads after each round",
            f"{_list(each.rss / MIB for each in held)} MiB; {_list(files)}; {_list(threads)}",
            f"at most {MOST_GROWTH // MIB} MiB and {MOST_FILES} files more than after the first, "
            f"never {MOST_THREADS} threads",
            flat,
            {"rss": [each.rss for each in held], "files": files, "threads": threads},
        )


def _list(values: object) -> str:
    return ", ".join(f"{value:.0f}" for value in values)  # type: ignore[attr-defined]
