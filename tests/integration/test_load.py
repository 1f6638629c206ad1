# SPDX-License-Identifier: Apache-2.0
"""Many requests at once, on two hosts: a small ``tox -e load``."""

from pathlib import Path

from tests.fixtures.glance import Glance
from tests.fixtures.mariadb import MariaDB
from tests.fixtures.rabbitmq import RabbitMQ
from tests.load.figures import figures
from tests.load.installation import Installation
from tests.load.plan import Plan
from tests.load.run import run

# As many snapshots wait as it takes to see that the late project does not.
PLAN = Plan(instances=40, requests=80, late=2, rounds=2, delay=0.1, places=1)


def test_everything_is_answered_and_ends(
    tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB, trusted_glance: Glance
) -> None:
    said: list[str] = []
    with Installation(tmp_path, PLAN, rabbitmq, mariadb, trusted_glance) as installation:
        judged = run(installation, said.append)
    found = figures(PLAN, judged)
    missed = [figure for figure in found if not figure.reached]
    assert not missed, "\n".join([*map(str, missed), *said])
    assert "fairness" in {figure.name for figure in found}
    assert any(each.outcome.refused for each in judged), "no instance was asked for twice at once"
