# SPDX-License-Identifier: Apache-2.0
"""All rounds of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.load import checks, rounds
from tests.load.figures import Judged
from tests.load.installation import Installation
from tests.load.processes import Holding, holding


def run(installation: Installation, say: Callable[[str], object]) -> list[Judged]:
    """Do the rounds of the installation's plan, one after the other.

    :param say: is told what came of each.
    """
    judged = []
    for number in range(1, installation.plan.rounds + 1):
        made = asyncio.run(rounds.run(installation, number))
        outcome = checks.judge(installation, made)
        held = _held(installation)
        judged.append(Judged(made, outcome, held))
        accepted = sum(each.answer.accepted for each in made.asked)
        say(
            f"round {number}: {len(made.asked)} asked, {accepted} accepted, answered within "
            f"{made.answered:.1f} s, {outcome.active} ACTIVE after {made.ended:.1f} s, "
            f"{len(outcome.problems)} problems; {installation.connections()} connections to the "
            "database"
        )
        for problem in outcome.problems[:20]:
            say(f"  {problem}")
    return judged


def _held(installation: Installation) -> dict[str, Holding | None]:
    """``None`` for one that has ended."""
    return {
        host: holding(service.pid) if service.pid is not None and service.running else None
        for host, service in installation.services.items()
    }
