# SPDX-License-Identifier: Apache-2.0
"""A time bound for calls that have none of their own.

libvirt's calls wait for its daemon, for the guest's monitor or for the guest's agent, and some of
them wait for ever. Such a call cannot be interrupted from outside, but it can be left alone: it
runs in a thread of its own, and whoever needs its answer waits only so long.
"""

import queue
import threading
from collections.abc import Callable
from typing import TypeVar

from oslo_log import log as logging

from nova_snap import exception

LOG = logging.getLogger(__name__)

T = TypeVar("T")


def call(
    function: Callable[[], T],
    seconds: float,
    what: str,
    give_up: Callable[[], None] | None = None,
    grace: float = 0.0,
) -> T:
    """Run ``function`` and return what it returns, or raise what it raises.

    A call that is late stays behind in a daemon thread, which ends when the call does.

    :param seconds: how long to wait.
    :param what: what is waited for, for the error.
    :param give_up: called when the time is over, to make the call come back, such as by aborting
        the job that it runs.
    :param grace: seconds that the call then has to come back. An answer within them counts: the
        call may have ended well just before it was told to stop.
    :raises nova_snap.exception.WaitTimeout: if the time is over.
    :raises nova_snap.exception.HostStarved: if there is no thread for it; it was not called then.
    """
    answers: queue.SimpleQueue[tuple[bool, T | BaseException]] = queue.SimpleQueue()

    def run() -> None:
        try:
            answers.put((True, function()))
        except BaseException as exc:
            answers.put((False, exc))

    try:
        threading.Thread(target=run, name=f"bounded: {what}", daemon=True).start()
    except RuntimeError as exc:
        raise exception.HostStarved(what=what, reason=str(exc)) from exc
    try:
        good, answer = answers.get(timeout=seconds)
    except queue.Empty:
        LOG.warning("%s has not ended within %g s", what, seconds)
        if give_up is None:
            raise exception.WaitTimeout(what=what, seconds=seconds) from None
        good, answer = _answer_after_giving_up(answers, seconds, what, give_up, grace)
    if good:
        return answer  # type: ignore[return-value]
    assert isinstance(answer, BaseException)  # noqa: S101 - for the type checker
    raise answer


def _answer_after_giving_up(
    answers: "queue.SimpleQueue[tuple[bool, T | BaseException]]",
    seconds: float,
    what: str,
    give_up: Callable[[], None],
    grace: float,
) -> tuple[bool, T | BaseException]:
    timeout = exception.WaitTimeout(what=what, seconds=seconds)
    try:
        give_up()
    except Exception:
        LOG.exception("%s could not be stopped", what)
    try:
        good, answer = answers.get(timeout=grace)
    except queue.Empty:
        raise timeout from None
    if good:
        return good, answer
    raise timeout from answer  # type: ignore[misc]
