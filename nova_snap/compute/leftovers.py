# SPDX-License-Identifier: Apache-2.0
"""What a snapshot could not put right at its end is tried again while the service runs.

A guest that libvirt, its agent or its own hypervisor did not answer for may be frozen or have a
job. Whoever could not be reached may be back a moment after it was given up.
"""

import dataclasses
import time
from typing import Final

from oslo_log import log

from nova_snap import exception
from nova_snap.compute import one_by_one
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.periodic import Periodic
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

LOOK_SECONDS: Final = 15.0
_LONGEST_PAUSE: Final = 300.0
_LOCK_SECONDS: Final = 1.0


@dataclasses.dataclass
class _Try:
    """:ivar due: when, of the monotonic clock. :ivar pause: seconds before the one after it."""

    due: float
    pause: float


class Leftovers:
    """Those of one host, of instances to which nothing else is being done.

    :param locks: of this host's instances.
    :param seconds: between two looks, and before the second try; later ones come ever later.
    """

    def __init__(
        self,
        host: str,
        driver: ComputeDriver,
        locks: InstanceLocks,
        seconds: float = LOOK_SECONDS,
    ) -> None:
        self._host = host
        self._driver = driver
        self._locks = locks
        self._seconds = seconds
        self._tries: dict[str, _Try] = {}

    def periodic(self, database: Database) -> Periodic:
        """A thread that looks from time to time, not yet started: the start itself has looked."""
        tasks = {"put right what snapshots have left": self.clean_up}
        return Periodic(database, self._seconds, tasks, delay=self._seconds)

    def clean_up(self, context: RequestContext) -> None:
        """Look once."""
        found = set(self._driver.unfinished())
        self._tries = {uuid: each for uuid, each in self._tries.items() if uuid in found}
        for uuid in sorted(found):
            attempt = self._tries.setdefault(uuid, _Try(0.0, self._seconds))
            if time.monotonic() >= attempt.due and self._clean_up_after(context, uuid):
                attempt.due = time.monotonic() + attempt.pause
                attempt.pause = min(2 * attempt.pause, _LONGEST_PAUSE)

    def _clean_up_after(self, context: RequestContext, uuid: str) -> bool:
        """Whether it was tried."""
        with one_by_one.apart(LOG, "Instance %s is not put right yet", uuid):
            try:
                with self._locks.hold(uuid, _LOCK_SECONDS):
                    instance = Instance.get_by_uuid(context, uuid)
                    if instance.task_state is not None or instance.host != self._host:
                        return False
                    for lost in self._driver.clean_up_after_restart(instance):
                        LOG.warning("Instance %s: %s", uuid, lost)
            except exception.InstanceBusy:
                return False
            except exception.InstanceNotFound:
                LOG.debug("%s is no instance; the next start puts it right", uuid)
            except exception.NovaSnapError as error:
                LOG.warning("Instance %s is not put right yet: %s", uuid, error)
        return True
