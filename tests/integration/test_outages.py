# SPDX-License-Identifier: Apache-2.0
"""A few of the outages of ``tox -e crash``: one of each of what snapshots need."""

import os
import random
from pathlib import Path

from tests.outages import configurations
from tests.outages.kinds import VICTIMS
from tests.outages.rounds import table
from tests.outages.runner import Runner
from tests.outages.world import OutageWorld

CHOSEN = configurations.of("stream", "stream-quiesced", "offline")


def test_nothing_is_lost(tmp_path: Path) -> None:
    """Another seed each time: it is printed with what was lost."""
    seed = int(os.environ.get("NOVA_SNAP_CRASH_SEED") or random.SystemRandom().randrange(10**6))
    said = [f"seed {seed}"]
    with OutageWorld(tmp_path) as world:
        runner = Runner(world, seed, said.append, down=(0.1, 1.0))
        runner.prepare(CHOSEN)
        for name in VICTIMS:
            runner.run(name, 1)
    report = "\n".join([*said, table(runner)])
    assert not runner.lost, report
    assert {kill.victim for kill in runner.kills if kill.hit} == {*VICTIMS}, report
