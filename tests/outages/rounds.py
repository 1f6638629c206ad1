# SPDX-License-Identifier: Apache-2.0
"""All the victims, one after the other, and what became of it."""

from __future__ import annotations

import collections
import time
from collections.abc import Sequence
from pathlib import Path

from tests.outages.configurations import CONFIGURATIONS, share
from tests.outages.kinds import Kill
from tests.outages.runner import Runner, Say
from tests.outages.world import OutageWorld


def run(victims: Sequence[str], kills: int, seed: int, directory: Path, say: Say) -> bool:
    """Kill each victim so often, while snapshots are taken by every method.

    :param directory: for logs.
    :returns: whether nothing was lost.
    """
    began = time.monotonic()
    directory.mkdir(parents=True, exist_ok=True)
    with OutageWorld(directory) as world:
        runner = Runner(world, seed, say)
        for place, configuration in enumerate(CONFIGURATIONS):
            shares = {name: share(kills, nth, place) for nth, name in enumerate(victims)}
            if any(shares.values()):
                runner.prepare(configuration)
            for name, count in shares.items():
                runner.run(name, count)
    hits = sum(kill.hit for kill in runner.kills)
    say(f"\n{table(runner)}\n")
    if by_hand := sum(bool(kill.by_hand) for kill in runner.kills):
        say(f"after {by_hand} of them libvirt had lost its job, which was put right by hand")
    say(
        f"seed {seed}: {hits} kills in {time.monotonic() - began:.0f} s, {len(runner.lost)} "
        f"with losses; {runner.snapshots} whole snapshots between them"
    )
    return not runner.lost and hits >= kills * len(victims)


def table(runner: Runner) -> str:
    """What was tried, and what came of it."""
    outcomes = sorted({what for kill in runner.kills for what in kill.outcomes})
    head = f"{'victim':9} {'method':12} {'kills':>6} {'random':>7} {'places':>7} {'missed':>7}"
    lines = [f"{head} {'survived':>9} {'lost':>5}  what became of the requests"]
    for name, method in sorted({(kill.victim, kill.configuration) for kill in runner.kills}):
        mine = [k for k in runner.kills if (k.victim, k.configuration) == (name, method)]
        lines.append(_row(name, method, mine, outcomes))
    return "\n".join([*lines, _row("all", "", runner.kills, outcomes)])


def _row(name: str, method: str, mine: Sequence[Kill], outcomes: Sequence[str]) -> str:
    hits = [kill for kill in mine if kill.hit]
    at_random = sum(kill.kind == "random" for kill in hits)
    places = len({(kill.scenario, kill.where) for kill in hits if kill.kind == "boundary"})
    survived = sum(not kill.problems for kill in hits)
    lost = sum(bool(kill.problems) for kill in mine)
    counts = sum((kill.outcomes for kill in mine), collections.Counter[str]())
    said = ", ".join(f"{counts[what]} {what}" for what in outcomes if counts[what])
    return (
        f"{name:9} {method:12} {len(hits):6} {at_random:7} {places:7} {len(mine) - len(hits):7} "
        f"{survived:9} {lost:5}  {said}"
    )
