# SPDX-License-Identifier: Apache-2.0
"""A part of the crash matrix; ``tox -e crash`` has the whole of it."""

import os
import random

from tests.crash.matrix import Matrix
from tests.crash.report import table
from tests.crash.scenarios import SCENARIOS
from tests.crash.world import World

KILLS = 20
# What they leave differs most; the others are variations of them.
CHOSEN = ("stream-quiesced", "offline", "mirror", "managed-save", "backup")


def test_nothing_is_lost(tmp_path):
    """Another seed each time: it is printed with what was lost."""
    seed = int(os.environ.get("NOVA_SNAP_CRASH_SEED") or random.SystemRandom().randrange(10**6))
    said = [f"seed {seed}"]
    with World(tmp_path) as world:
        matrix = Matrix(world, seed, said.append)
        scenarios = [SCENARIOS[name] for name in CHOSEN]
        matrix.run(scenarios, KILLS)
    report = "\n".join([*said, table(matrix, scenarios)])
    assert not matrix.lost, report
    assert sum(kill.hit for kill in matrix.kills) >= KILLS, report
    assert {kill.kind for kill in matrix.kills if kill.hit} >= {"boundary"}, report
