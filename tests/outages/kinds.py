# SPDX-License-Identifier: Apache-2.0
"""What can be killed, and one try of it."""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable
from typing import Any

from tests.outages.libvirtd import Libvirtd
from tests.outages.victims import Api, ImageService, Server, Victim


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of victim.

    :ivar make: the victim of a world.
    :ivar labels: of boundaries that are about it: at these it is killed first.
    """

    make: Callable[[Any], Victim]
    labels: tuple[str, ...] = ()


_SQL = ("instance: ", "action ", "event ", "request ", "message ")
VICTIMS: dict[str, Kind] = {
    "api": Kind(Api, (*_SQL, "image: create")),
    "rabbitmq": Kind(lambda world: Server(world.rabbitmq), ("message ", "instance: ")),
    "mariadb": Kind(lambda world: Server(world.mariadb), _SQL),
    "glance": Kind(lambda world: ImageService(world.glance), ("image: ",)),
    "libvirtd": Kind(Libvirtd, ("libvirt ", "journal: ")),
}
"""By name."""


@dataclasses.dataclass
class Kill:
    """One try.

    :ivar configuration: its name.
    :ivar where: what the services were just doing, or ``at random``.
    :ivar hit: whether the victim died before everything that was asked had ended.
    :ivar down: seconds until it served again.
    :ivar by_hand: guests of which libvirt itself has lost a job: :mod:`tests.fixtures.lost_job`.
    """

    victim: str
    configuration: str
    scenario: str
    kind: str
    where: str = "-"
    hit: bool = True
    down: float = 0.0
    by_hand: list[str] = dataclasses.field(default_factory=list)
    outcomes: collections.Counter[str] = dataclasses.field(default_factory=collections.Counter)
    problems: list[str] = dataclasses.field(default_factory=list)
