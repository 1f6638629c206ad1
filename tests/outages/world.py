# SPDX-License-Identifier: Apache-2.0
"""A deployment whose parts are processes of their own, as ``doc/deployment.md`` has it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar

from tests.crash.scenarios import Scenario
from tests.crash.world import World
from tests.fixtures.mariadb import MariaDB
from tests.fixtures.rabbitmq import RabbitMQ
from tests.outages.victims import API_COMMAND

COMPUTE_COMMAND = "nova-snap-compute"
PENDING_SECONDS = 20


class OutageWorld(World):
    """The world of the crash matrix, with RabbitMQ and MariaDB.

    :ivar scenario: of the configuration that the services run with.
    """

    commands: ClassVar[Sequence[str]] = (COMPUTE_COMMAND, API_COMMAND)

    def enter_more(self, stack: contextlib.ExitStack) -> None:
        self.rabbitmq = stack.enter_context(RabbitMQ())
        self.mariadb = stack.enter_context(MariaDB())

    def settings(self, scenario: Scenario) -> dict[str, dict[str, Any]]:
        made = super().settings(scenario)
        made["DEFAULT"] |= {
            "transport_url": self.rabbitmq.url,
            "snapshot_pending_timeout": PENDING_SECONDS,
            "report_interval": 2,
            "service_down_time": 15,
        }
        made["database"] = {"connection": self.mariadb.url}
        made["oslo_messaging_rabbit"] = {"rabbit_quorum_queue": True}
        return made
