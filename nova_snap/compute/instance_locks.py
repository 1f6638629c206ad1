# SPDX-License-Identifier: Apache-2.0
"""One at a time for each instance of a host.

The task_state keeps requests apart; what this adds is that a delete, which may come at any time,
waits until whatever it interrupts has let go of the guest.
"""

import contextlib
import threading
from collections.abc import Iterator

from nova_snap import exception


class _Entry:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0


class InstanceLocks:
    """Locks by instance, which are there only while someone has or wants them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._entries: dict[str, _Entry] = {}

    @contextlib.contextmanager
    def hold(self, uuid: str, seconds: float) -> Iterator[None]:
        """Be the only one for the time of the block.

        :param seconds: to wait at most.
        :raises nova_snap.exception.InstanceBusy: if another one did not let go of it.
        """
        with self._guard:
            entry = self._entries.setdefault(uuid, _Entry())
            entry.users += 1
        try:
            if not entry.lock.acquire(timeout=seconds):
                raise exception.InstanceBusy(instance_uuid=uuid, seconds=seconds)
            try:
                yield
            finally:
                entry.lock.release()
        finally:
            with self._guard:
                entry.users -= 1
                if not entry.users:
                    del self._entries[uuid]
