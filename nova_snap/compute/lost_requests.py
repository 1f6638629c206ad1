# SPDX-License-Identifier: Apache-2.0
"""Requests whose message never came: the broker was restarted, or has lost it.

A host that listens takes a request up within moments, whether a place is free for it or not. One
that still waits after minutes waits for ever, unless somebody ends it.
"""

import datetime
import threading
from typing import Final

from oslo_log import log
from oslo_utils import timeutils

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.compute import recovery, snapshot_kinds, task_states
from nova_snap.compute.recovery import ImageStore
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList

LOG = log.getLogger(__name__)

# Much longer than a message takes, and than the clocks of two hosts may differ.
_PATIENCE_SECONDS: Final = 600.0
_LOOK_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 5.0


class LostRequests:
    """Ends them, by a thread of its own.

    :param patience: seconds that a request may wait for its message.
    :param seconds: between two looks. The first is taken after ``patience``: until then the
        messages may come that have waited for this process.
    """

    def __init__(
        self,
        database: Database,
        image_api: ImageStore,
        host: str,
        patience: float = _PATIENCE_SECONDS,
        seconds: float = _LOOK_SECONDS,
    ) -> None:
        self._database = database
        self._image_api = image_api
        self._host = host
        self._patience = patience
        self._seconds = seconds
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lost-requests", daemon=True)

    def start(self) -> None:
        """Look from time to time, until :meth:`stop`."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        wait = self._patience
        while not self._end.wait(wait):
            wait = self._seconds
            try:
                self._look(nova_context.get_admin_context(self._database))
            except Exception:
                LOG.warning("Lost requests cannot be looked for now", exc_info=True)

    def _look(self, context: RequestContext) -> None:
        limit = timeutils.utcnow() - datetime.timedelta(seconds=self._patience)
        filters = InstanceFilters(host=self._host, task_states=snapshot_kinds.ANNOUNCED)
        for instance in InstanceList.get_by_filters(context, filters):
            action = recovery.unfinished_action(context, instance)
            since = instance.updated_at if action is None else action.start_time
            if since is not None and since < limit:
                self._give_up(context, instance)

    def _give_up(self, context: RequestContext, instance: Instance) -> None:
        """Take the request up ourselves first: its message may come after all."""
        announced, image_id = instance.task_state, instance.snapshot_image_id
        try:
            instance.task_state = task_states.IMAGE_SNAPSHOT
            instance.save(expected_task_state=[announced])
        except (exception.UnexpectedTaskState, exception.InstanceNotFound):
            return
        LOG.error(
            "Instance %s has waited in task_state %s for more than %g s: the message is lost",
            instance.uuid,
            announced,
            self._patience,
        )
        error = exception.RequestLost(host=self._host, seconds=self._patience)
        action = recovery.unfinished_action(context, instance)
        recovery.give_up(context, self._image_api, instance, image_id, self._host, action, error)
