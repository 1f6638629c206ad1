# SPDX-License-Identifier: Apache-2.0
"""All the victims, one after the other, and what became of it."""

from __future__ import annotations

import collections
import time
from collections.abc import Sequence
from pathlib import Path

from tests.outages.runner import Kill, Runner, Say
from tests.outages.world import OutageWorld


def run(victims: Sequence[str], kills: int, seed: int, directory: Path, say: Say) -> bool:
    """Kill each victim so often.

    :param directory: for logs.
    :returns: whether nothing was lost.
    """
    began = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    with OutageWorld(directory) as world:
        runner = Runner(world, seed, say)
        runner.prepare()
        for name in victims:
            runner.run(name, kills)
    hits = sum(kill.hit for kill in runner.kills)
    say(f"\n{table(runner)}\n")
    say(
        f"seed {seed}: {hits} kills in {time.monotonic() - began:.0f} s, {len(runner.lost)} "
        f"with losses; {runner.snapshots} whole snapshots between them"
    )
    return not runner.lost and hits >= kills * len(victims)


def table(runner: Runner) -> str:
    """What was tried, and what came of it."""
    outcomes = sorted({what for kill in runner.kills for what in kill.outcomes})
    head = f"{'victim':9} {'kills':>6} {'random':>7} {'places':>7} {'missed':>7} {'survived':>9}"
    lines = [f"{head} {'lost':>5}  what became of the requests"]
    for name in dict.fromkeys(kill.victim for kill in runner.kills):
        mine = [kill for kill in runner.kills if kill.victim == name]
        lines.append(_row(name, mine, outcomes))
    return "\n".join([*lines, _row("all", runner.kills, outcomes)])


def _row(name: str, mine: Sequence[Kill], outcomes: Sequence[str]) -> str:
    hits = [kill for kill in mine if kill.hit]
    at_random = sum(kill.kind == "random" for kill in hits)
    places = len({(kill.scenario, kill.where) for kill in hits if kill.kind == "boundary"})
    survived = sum(not kill.problems for kill in hits)
    lost = sum(bool(kill.problems) for kill in mine)
    counts = sum((kill.outcomes for kill in mine), collections.Counter[str]())
    said = ", ".join(f"{counts[what]} {what}" for what in outcomes if counts[what])
    return (
        f"{name:9} {len(hits):6} {at_random:7} {places:7} {len(mine) - len(hits):7} "
        f"{survived:9} {lost:5}  {said}"
    )
