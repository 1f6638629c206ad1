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

PLAN = Plan(instances=14, requests=40, late=4, rounds=2, delay=0.1, places=2)


def test_everything_is_answered_and_ends(
    tmp_path: Path, rabbitmq: RabbitMQ, mariadb: MariaDB, trusted_glance: Glance
) -> None:
    said: list[str] = []
    with Installation(tmp_path, PLAN, rabbitmq, mariadb, trusted_glance) as installation:
        judged = run(installation, said.append)
    missed = [figure for figure in figures(PLAN, judged) if figure.reached is False]
    assert not missed, "\n".join([*map(str, missed), *said])
    assert all(each.outcome.active for each in judged)
    assert any(each.outcome.refused for each in judged), "no instance was asked for twice at once"
