# SPDX-License-Identifier: Apache-2.0
"""What the fake driver does wrong when it is told to: see ``[fake] faults``."""

import dataclasses
import fnmatch
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception

LOG = logging.getLogger(__name__)

FAIL: Final = "fail"
STALL: Final = "stall"
HANG: Final = "hang"
DIE: Final = "die"
LIE: Final = "lie"

_ANY: Final = "*"
_FOR_EVER: Final = float("inf")
# How long a delay goes on after it is over for another reason.
_LOOK_SECONDS: Final = 0.05


@dataclasses.dataclass(frozen=True)
class Fault:
    """One of the option's values.

    :ivar where: a phase of a snapshot, or an action, such as ``image_uploading`` or ``spawn``.
    :ivar kind: what goes wrong, one of the constants above.
    :ivar instances: a pattern for uuids and names.
    """

    where: str
    kind: str
    instances: str = _ANY

    @classmethod
    def parse(cls, text: str) -> "Fault":
        """:param text: ``[INSTANCES@]WHERE:KIND``, as the option's type has checked it."""
        instances, at, rest = text.rpartition("@")
        where, _, kind = rest.partition(":")
        return cls(where, kind, instances if at else _ANY)

    def meets(self, where: str, uuid: str, name: str) -> bool:
        known = [each for each in (uuid, name) if each]
        return self.where == where and any(fnmatch.fnmatch(each, self.instances) for each in known)

    def __str__(self) -> str:
        return f"[fake] says {self.instances}@{self.where}:{self.kind}"


class Stage:
    """Where the driver's delays pass and its faults happen.

    :param closed: set when the driver lets go of everything.
    """

    def __init__(self, conf: cfg.ConfigOpts, closed: threading.Event) -> None:
        self._conf = conf
        self._closed = closed

    def find(self, where: str, uuid: str, name: str = "") -> Fault | None:
        """The first fault for this instance at this point, if there is one.

        :param name: the domain's name, where it is known.
        """
        faults: Sequence[Fault] = [Fault.parse(text) for text in self._conf.fake.faults]
        if self._conf.fake.fail_in is not None:
            faults = [*faults, Fault(self._conf.fake.fail_in, FAIL)]
        for fault in faults:
            if fault.meets(where, uuid, name):
                LOG.warning("Instance %s meets a fault: %s", uuid, fault)
                return fault
        return None

    def passes(
        self,
        where: str,
        uuid: str,
        name: str,
        seconds: float,
        check: Callable[[], None] = lambda: None,
    ) -> bool:
        """Let the time pass that something takes, and what goes wrong with it happen.

        :param seconds: how long it takes.
        :param check: raises if it is not wanted any more.
        :returns: False if it is not to be done, and said to be done all the same.
        :raises nova_snap.exception.FakeFailure: if it fails, or the driver is closed meanwhile.
        """
        fault = self.find(where, uuid, name)
        kind = "" if fault is None else fault.kind
        endless = kind in (STALL, HANG)
        self._wait(where, uuid, _FOR_EVER if endless else seconds, check if kind != HANG else None)
        if kind == DIE:
            # As a crash does: nothing is put right, and nobody is told.
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == FAIL:
            raise exception.FakeFailure(action=where, instance_uuid=uuid, reason=str(fault))
        return kind != LIE

    def _wait(
        self, where: str, uuid: str, seconds: float, check: Callable[[], None] | None
    ) -> None:
        until = time.monotonic() + seconds
        while True:
            if check is not None:
                check()
            left = until - time.monotonic()
            if self._closed.wait(min(_LOOK_SECONDS, max(0.0, left))):
                reason = "the driver was closed"
                raise exception.FakeFailure(action=where, instance_uuid=uuid, reason=reason)
            if left <= _LOOK_SECONDS:
                break
        if check is not None:
            check()
