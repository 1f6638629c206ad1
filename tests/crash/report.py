# SPDX-License-Identifier: Apache-2.0
"""What the matrix has tried, and what came of it."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from tests.crash.matrix import Kill, Matrix
from tests.crash.scenarios import Scenario


def table(matrix: Matrix, scenarios: Sequence[Scenario]) -> str:
    """What was tried, and what came of it."""
    kinds = ("boundary", "random", "recovery")
    head = f"{'scenario':22} {'kills':>6}" + "".join(f"{kind:>10}" for kind in kinds)
    lines = [f"{head} {'places':>10} {'missed':>7} {'survived':>9} {'lost':>5}"]
    for name in dict.fromkeys(kill.scenario for kill in matrix.kills):
        mine = [kill for kill in matrix.kills if kill.scenario == name]
        hits = [kill for kill in mine if kill.hit]
        lines.append(_row(name, mine, hits, kinds, matrix.points.get(name, 0)))
    hits = [kill for kill in matrix.kills if kill.hit]
    lines.append(_row("all", matrix.kills, hits, kinds, sum(matrix.points.values())))
    for method in dict.fromkeys(scenario.method for scenario in scenarios):
        steps, missed = matrix.steps(method), sorted(matrix.missed(method))
        lines.append(f"{method}: killed at {len(steps) - len(missed)} of its {len(steps)} steps")
        lines += [f"     not at: {label}" for label in missed]
    return "\n".join(lines)


def _row(
    name: str, mine: Sequence[Kill], hits: Sequence[Kill], kinds: Sequence[str], points: int
) -> str:
    by_kind = collections.Counter(kill.kind for kill in hits)
    places = len({(kill.scenario, kill.where) for kill in hits if kill.kind == "boundary"})
    lost = sum(bool(kill.problems) for kill in mine)
    good = sum(not kill.problems for kill in hits)
    return (
        f"{name:22} {len(hits):6}" + "".join(f"{by_kind[kind]:10}" for kind in kinds)
        + f" {f'{places}/{points}':>10} {len(mine) - len(hits):7} {good:9} {lost:5}"
    )  # fmt: skip
