# SPDX-License-Identifier: Apache-2.0
"""What a stand-in for a server over HTTP does wrong, and to which requests."""

from __future__ import annotations

import dataclasses
import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal


@dataclasses.dataclass(frozen=True)
class Refuse:
    """Says no, when it has read the request. :ivar status: of the answer, such as 503."""

    status: int
    text: str = "it was told to refuse"


@dataclasses.dataclass(frozen=True)
class HangUp:
    """Closes the connection without an answer. :ivar after: bytes of the request's body."""

    after: int = 0


@dataclasses.dataclass(frozen=True)
class Stall:
    """Keeps the connection and goes no further.

    :ivar where: ``body``: while it reads the request's; ``headers``: it has done what was asked,
        and says nothing; ``answer``: in the middle of the answer's body.
    :ivar after: bytes of the request's body that it reads first.
    """

    where: Literal["body", "headers", "answer"]
    after: int = 0


@dataclasses.dataclass(frozen=True)
class Truncate:
    """Does what was asked, sends the first half of the answer's body, and closes.

    :ivar announced: the headers tell the whole length; else that of the half: it is half a JSON.
    """

    announced: bool = True


@dataclasses.dataclass(frozen=True)
class Trickle:
    """Does what was asked, and sends its answer a byte at a time.

    :ivar pause: in seconds.
    :ivar headers: from its first line on; else only its body.
    """

    pause: float = 0.2
    headers: bool = False


@dataclasses.dataclass(frozen=True)
class Answer:
    """Does nothing, and answers with something that is none of its own, as a proxy might."""

    body: bytes
    status: int = 200
    content_type: str = "application/json"


@dataclasses.dataclass(frozen=True)
class Pretend:
    """Answers as if it had done what was asked, and has not. Data are read and forgotten."""


@dataclasses.dataclass(frozen=True)
class Lie:
    """Does what was asked, and answers something else. :ivar says: what it changes in a record."""

    says: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Spoil:
    """Does what was asked, and changes the record after that. :ivar record: the changes."""

    record: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Vanish:
    """Does what was asked; then the record is gone, as if somebody had deleted it."""


Fault = (
    Refuse | HangUp | Stall | Truncate | Trickle | Answer | Pretend | Lie | Spoil | Vanish
)  # fmt: skip


class Rule:
    """A fault, and the requests that meet it.

    :param method: such as ``PUT``.
    :param path: below the version, such as ``images/*/file``; a star is one segment.
    :param nth: the first of the requests like that which meets it, from 1 on.
    :param times: how many do; ``None`` for all from then on.
    :ivar met: set when a request has met it.
    """

    def __init__(
        self, method: str, path: str, fault: Fault, nth: int = 1, times: int | None = None
    ) -> None:
        self.fault = fault
        self.met = threading.Event()
        self.hits = 0
        self._method = method
        self._path = re.compile("[^/]+".join(map(re.escape, path.strip("/").split("*"))))
        self._seen = 0
        self._nth, self._times = nth, times

    def takes(self, method: str, path: str) -> bool:
        """Whether this request meets the fault; counts it."""
        if method != self._method or not self._path.fullmatch(path):
            return False
        self._seen += 1
        if self._seen < self._nth or (self._times is not None and self.hits >= self._times):
            return False
        self.hits += 1
        self.met.set()
        return True


class Rules:
    """The faults of one server. The first rule that takes a request decides."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rules: list[Rule] = []

    def add(self, rule: Rule) -> Rule:
        with self._lock:
            self._rules.append(rule)
        return rule

    def clear(self) -> None:
        with self._lock:
            self._rules.clear()

    def find(self, method: str, path: str) -> Fault | None:
        with self._lock:
            return next((rule.fault for rule in self._rules if rule.takes(method, path)), None)


_KINDS: Mapping[str, Callable[..., Fault]] = {
    "refuse": lambda status: Refuse(int(status)),
    "hangup": lambda after="0": HangUp(int(after)),
    "stall": lambda where, after="0": Stall(where, int(after)),
    "truncate": lambda: Truncate(),
    "half": lambda: Truncate(announced=False),
    "trickle": lambda pause="0.2", where="body": Trickle(float(pause), where == "headers"),
    "answer": lambda text: Answer(text.encode()),
    "pretend": lambda: Pretend(),
    "lie": lambda says: Lie(json.loads(says)),
    "spoil": lambda record: Spoil(json.loads(record)),
    "vanish": lambda: Vanish(),
}


def parse(text: str) -> Rule:
    """A rule as a command line has it: method, path, fault, the fault's arguments, ``nth=N``,
    ``times=N``, without spaces in them. For example ``PUT images/*/file refuse 503 times=2``.

    :raises ValueError: if it is none.
    """
    try:
        method, path, kind, *rest = text.split()
        counts, arguments = _counts(rest)
        return Rule(method.upper(), path, _KINDS[kind](*arguments), **counts)
    except (KeyError, TypeError, ValueError) as error:
        kinds = ", ".join(sorted(_KINDS))
        reason = f"{text!r} is no fault: METHOD PATH FAULT [ARGUMENT...] [nth=N] [times=N], with "
        raise ValueError(f"{reason}a FAULT of {kinds}: {error}") from error


def _counts(words: Iterable[str]) -> tuple[dict[str, int], list[str]]:
    counts: dict[str, int] = {}
    others = []
    for word in words:
        name, _, value = word.partition("=")
        if name in ("nth", "times") and value:
            counts[name] = int(value)
        else:
            others.append(word)
    return counts, others
