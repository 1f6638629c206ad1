# SPDX-License-Identifier: Apache-2.0
"""A lock between threads and between processes that ends with whoever holds it."""

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from typing import Final

from nova_snap import exception

_POLL_SECONDS: Final = 0.2


@contextlib.contextmanager
def hold(path: str, what: str, seconds: float, check: Callable[[], None]) -> Iterator[None]:
    """Hold a lock for the block.

    :param path: of the lock's file, which is made if it is missing, and stays.
    :param what: what is waited for, for the error.
    :param seconds: how long to wait.
    :param check: called while waiting; what it raises is raised.
    :raises nova_snap.exception.WaitTimeout:
    """
    # Each opening has a lock of its own, so that two threads exclude each other as well.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + seconds
        while not _try(descriptor):
            if time.monotonic() > until:
                raise exception.WaitTimeout(what=what, seconds=seconds)
            check()
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def hold_if_free(path: str) -> Iterator[bool]:
    """Hold a lock for the block, if nobody else does.

    :returns: whether it is held.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _try(descriptor)
    finally:
        os.close(descriptor)


def _try(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
