# SPDX-License-Identifier: Apache-2.0
"""How a host takes its snapshots while something dies: the method is an option of the host."""

from __future__ import annotations

import dataclasses

from tests.crash.scenarios import SCENARIOS, Scenario


@dataclasses.dataclass(frozen=True)
class Configuration:
    """What services run with until they are stopped.

    :ivar name: for the table.
    :ivar scenarios: what is asked for: the first one has all the options. They are of more than
        one guest.
    """

    name: str
    scenarios: tuple[Scenario, ...]


def of(name: str, *scenarios: str) -> Configuration:
    """:param scenarios: their names."""
    return Configuration(name, tuple(SCENARIOS[each] for each in scenarios))


# A guest that is shut off is taken "offline" whatever the option says.
CONFIGURATIONS = (
    of("stream", "stream-paused", "stream-quiesced", "offline", "backup"),
    of("mirror", "mirror", "mirror-paused", "offline"),
    of("managed_save", "managed-save", "managed-save-running", "offline"),
)


def share(kills: int, victim: int, configuration: int) -> int:
    """How many of the kills of a victim happen in a configuration.

    Evenly; what is over goes to others with each victim, so that few kills of many victims meet
    every configuration.

    :param victim: its number, from 0; ``configuration``: as well.
    """
    count = len(CONFIGURATIONS)
    return kills // count + ((configuration - victim) % count < kills % count)
