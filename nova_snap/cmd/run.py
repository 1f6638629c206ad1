# SPDX-License-Identifier: Apache-2.0
"""Running until somebody says stop."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Final, NoReturn

import oslo_messaging
from oslo_config import cfg
from oslo_db import exception as db_exception
from oslo_log import log

from nova_snap import exception
from nova_snap.cmd import memory

LOG = log.getLogger(__name__)

STOP_SECONDS: Final = 45.0
"""What a stop may take beyond graceful_shutdown_timeout."""

# What an operator can put right without reading our code.
_FORESEEN = (
    exception.NovaSnapError,
    OSError,
    db_exception.DBError,
    oslo_messaging.MessagingException,
)


class Stopped(BaseException):
    """A signal came before the service had started. No handler of errors is to take it for one."""


class Stop:
    """SIGTERM or SIGINT, as something that can be waited for.

    Before that, a signal ends what the main thread does with :class:`Stopped`: a start waits for
    the broker for as long as it is down.
    """

    def __init__(self) -> None:
        self._event = threading.Event()
        self._started = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def wait(self) -> None:
        """Until a signal comes."""
        self._started = True
        self._event.wait()

    def _on_signal(self, number: int, frame: object) -> None:  # noqa: ARG002
        self._event.set()
        if not self._started:
            raise Stopped


def guarded(run: Callable[[], int]) -> int:
    """Run an entry point; what it cannot do becomes one line for the operator.

    :returns: the exit code: 1 for an error that was foreseen, 2 for a configuration that cannot
        be used.
    """
    memory.limit_arenas()
    try:
        return run()
    except Stopped:
        LOG.info("Stopped before it had started")
        exit_now(0)
    except cfg.Error as error:
        print(f"configuration: {error}", file=sys.stderr)
        return 2
    except _FORESEEN as error:
        LOG.debug("Ended by", exc_info=True)
        print(f"error: {error}", file=sys.stderr)
        return 1


def exit_now(code: int) -> NoReturn:
    """End the process although snapshots still run: their threads cannot be ended otherwise."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def exit_within(timeout: float) -> None:
    """Bound a stop that begins now, whatever hangs in it: a database, the hypervisor, a library
    that waits for its threads. The next start puts right what is left.

    :param timeout: seconds, of graceful_shutdown_timeout; what is cancelled and closed after that
        has another :data:`STOP_SECONDS`.
    """

    def end() -> None:
        LOG.error("The stop takes longer than %g s: the process ends as it is", allowed)
        exit_now(1)

    allowed = timeout + STOP_SECONDS
    guard = threading.Timer(allowed, end)
    guard.daemon = True
    guard.start()
