# SPDX-License-Identifier: Apache-2.0
"""What clients ask while something dies, and what they are told."""

from __future__ import annotations

import dataclasses
import itertools
import os
import threading
import time
from collections.abc import Sequence

import requests

from tests.crash.scenarios import GuestName, Scenario
from tests.crash.world import World

REQUEST_ID = "x-openstack-request-id"
# The client itself gives up after a minute.
ANSWER_SECONDS = 60.0
# Of who asks for a snapshot of a server that is there, and of who reads one.
_ASKED_CODES = (202, 409, 503)
_READ_CODES = (200, 503)

GUESTS: tuple[GuestName, ...] = ("writer", "still", "off")

_numbers = itertools.count(1)


@dataclasses.dataclass
class Asked:
    """A request, and its answer.

    :ivar name: of the image: no other request has it.
    :ivar code: of HTTP; ``None`` while there is none.
    :ivar error: why there is no answer.
    :ivar image_id: if it was accepted.
    :ivar at: when it was sent, by the monotonic clock.
    """

    scenario: Scenario
    name: str
    code: int | None = None
    error: str = ""
    text: str = ""
    request_id: str | None = None
    image_id: str | None = None
    at: float = 0.0
    seconds: float = 0.0

    @property
    def accepted(self) -> bool:
        """Whether the client was told so."""
        return self.code == requests.codes.accepted

    def send(self, world: World) -> None:
        """Ask, and wait for the answer."""
        self.at = time.monotonic()
        try:
            answer = world.post(self.scenario, self.name)
        except requests.RequestException as exc:
            self.error = f"{type(exc).__name__}: {exc}"
        else:
            self.code, self.text = answer.status_code, answer.text
            self.request_id = answer.headers.get(REQUEST_ID)
            if self.accepted:
                self.image_id = answer.json()["image_id"]
        self.seconds = time.monotonic() - self.at

    def __str__(self) -> str:
        said = self.code if self.code is not None else self.error
        return f"{self.name} ({said}, {self.request_id}, image {self.image_id})"


def ask(scenario: Scenario) -> Asked:
    """A request, not yet sent."""
    return Asked(scenario, f"{scenario.name}-{os.getpid()}-{next(_numbers)}")


class Crowd:
    """Clients that ask at the same time, and one that reads all the while.

    :param scenarios: what each of them asks for.
    :ivar since: :meth:`World.counter` of each guest before they asked.
    """

    def __init__(self, world: World, scenarios: Sequence[Scenario]) -> None:
        self._world = world
        self.asked = [ask(scenario) for scenario in scenarios]
        self.since: dict[GuestName, int | None] = {}
        self._threads: list[threading.Thread] = []
        self._end = threading.Event()
        self._reader = threading.Thread(target=self._read, name="reader", daemon=True)
        self.read: list[Asked] = []
        self.reads = 0

    def begin(self) -> None:
        """All of them ask."""
        self.since = {name: self._world.counter(name) for name in GUESTS}
        self._reader.start()
        for each in self.asked:
            self._send(each)

    def another(self, scenario: Scenario) -> None:
        """One more comes later."""
        self.asked.append(ask(scenario))
        self._send(self.asked[-1])

    @property
    def answered(self) -> bool:
        """Whether all have been told, or cut off."""
        return not any(thread.is_alive() for thread in self._threads)

    def end(self, seconds: float, *, cut_off: bool) -> list[str]:
        """Wait for the answers.

        :param cut_off: whether what answers has been killed: there may be no answer then.
        :returns: what is wrong with them.
        """
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        reads = self._reader.is_alive()
        self._end.set()
        self._reader.join(ANSWER_SECONDS)
        problems = [f"{each} has no answer" for each in self.asked if not each.seconds]
        if not reads or not self.reads:
            problems.append(f"who reads all the while has ended after {self.reads} answers")
        for asked, codes in ((self.asked, _ASKED_CODES), (self.read, _READ_CODES)):
            answered = [each for each in asked if each.seconds]
            problems += [said for each in answered for said in _unfit(each, codes, cut_off)]
        return problems

    def _send(self, asked: Asked) -> None:
        thread = threading.Thread(target=asked.send, args=[self._world], daemon=True)
        thread.start()
        self._threads.append(thread)

    def _read(self) -> None:
        """Look at the servers: what is not answered well is kept."""
        while not self._end.wait(0.1):
            for path in ("/servers/detail", f"/servers/{self._world.guests['writer'].uuid}"):
                look = Asked(self.asked[0].scenario, f"GET {path}", at=time.monotonic())
                try:
                    answer = self._world.client.get(path)
                except requests.RequestException as exc:
                    look.error = f"{type(exc).__name__}: {exc}"
                else:
                    look.code, look.text = answer.status_code, answer.text
                    look.request_id = answer.headers.get(REQUEST_ID)
                look.seconds = time.monotonic() - look.at
                self.reads += 1
                if look.code != requests.codes.ok:
                    self.read.append(look)


def _unfit(asked: Asked, codes: Sequence[int], cut_off: bool) -> list[str]:
    """An answer comes in time, has an id by which its cause is found, and is for a user's eyes.

    :param codes: that it may have.
    :param cut_off: whether there may be none.
    """
    problems = []
    if asked.seconds > ANSWER_SECONDS:
        problems.append(f"{asked} took {asked.seconds:.0f} s")
    if asked.code is None:
        # Where the process that would have answered is dead the connection ends. It must not hang.
        if "Timeout" in asked.error:
            problems.append(f"{asked} hung")
        elif not cut_off:
            problems.append(f"{asked} was cut off, and what answers was not killed")
        return problems
    if asked.request_id is None:
        problems.append(f"{asked} has no request id")
    if "Traceback" in asked.text or "sqlalchemy" in asked.text.lower():
        problems.append(f"{asked} shows what is inside: {asked.text}")
    if asked.code not in codes:
        problems.append(f"{asked} should be one of {codes}: {asked.text}")
    return problems
