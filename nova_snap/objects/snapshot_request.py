# SPDX-License-Identifier: Apache-2.0
"""The journal of snapshots: what is to be put right should nobody live to end them.

A request is written down *before* its image is made, under an id that is chosen beforehand, and is
forgotten when it has ended and nothing is left of it. Whatever dies in between, the image can be
found by it.
"""

from __future__ import annotations

import dataclasses
import datetime
from typing import Final

from oslo_db import exception as db_exception
from oslo_utils import timeutils

from nova_snap.context import RequestContext
from nova_snap.db import models, snapshot_queries
from nova_snap.db.session import retry_on_deadlock, retry_on_failover

ASKED: Final = "asked"
"""The API makes the image, or the message waits for the host."""

QUEUED: Final = "queued"
"""The host has taken it up; it waits for one of max_concurrent_snapshots places."""

RUNNING: Final = "running"

GIVEN_UP: Final = "given_up"
"""It has failed, and its image is to go, even if the image service took all of it."""

PHASES: Final = (ASKED, QUEUED, RUNNING, GIVEN_UP)


@dataclasses.dataclass(frozen=True)
class SnapshotRequest:
    """What is asked for, or runs.

    :ivar action: such as ``createImage``.
    :ivar phase: one of :data:`PHASES`, since ``phase_since`` (UTC, by the clock of whoever said).
    :ivar request_id: by which its action is found; ``None`` where a service of before it wrote it.
    """

    image_id: str
    instance_uuid: str
    host: str | None
    action: str
    phase: str
    phase_since: datetime.datetime
    created_at: datetime.datetime
    request_id: str | None

    @staticmethod
    @retry_on_deadlock
    def record(
        context: RequestContext, image_id: str, instance_uuid: str, host: str | None, action: str
    ) -> None:
        """Write down that the image is about to be made.

        :raises oslo_db.exception.DBDuplicateEntry: if it was written down before.
        """
        with context.db.writer() as session:
            snapshot_queries.request_add(
                session,
                {
                    "image_id": image_id,
                    "instance_uuid": instance_uuid,
                    "host": host,
                    "action": action,
                    "phase": ASKED,
                    "request_id": context.request_id,
                },
            )

    @classmethod
    def advance(
        cls,
        context: RequestContext,
        image_id: str,
        instance_uuid: str,
        host: str,
        action: str,
        phase: str,
    ) -> None:
        """Write down what is being done, also for a request that did not come from our API."""
        while not cls._advance(context, image_id, phase):
            try:
                cls.record(context, image_id, instance_uuid, host, action)
            except db_exception.DBDuplicateEntry:
                # Another one was faster by a moment.
                continue

    @classmethod
    def give_up(cls, context: RequestContext, image_id: str) -> None:
        """Write down that nobody wants the image, if there is a request for it."""
        cls._advance(context, image_id, GIVEN_UP)

    @staticmethod
    @retry_on_failover
    def _advance(context: RequestContext, image_id: str, phase: str) -> bool:
        with context.db.writer() as session:
            return snapshot_queries.request_advance(session, image_id, phase)

    @staticmethod
    @retry_on_failover
    def forget(context: RequestContext, image_id: str) -> None:
        """It has ended, and nothing is left of it."""
        with context.db.writer() as session:
            snapshot_queries.request_delete(session, image_id)

    @classmethod
    def get(cls, context: RequestContext, image_id: str) -> SnapshotRequest | None:
        """The request for an image; ``None`` if there is none, or none any more."""
        with context.db.reader() as session:
            row = snapshot_queries.request_get(session, image_id)
            return None if row is None else cls._from_row(row)

    @classmethod
    def get_unchanged(cls, context: RequestContext, seconds: float) -> list[SnapshotRequest]:
        """Requests that have been in their phase for longer than that, oldest first."""
        before = timeutils.utcnow() - datetime.timedelta(seconds=seconds)
        with context.db.reader() as session:
            rows = snapshot_queries.requests(session, before=before)
            return [cls._from_row(row) for row in rows]

    @classmethod
    def get_all(cls, context: RequestContext, host: str | None = None) -> list[SnapshotRequest]:
        """All that there are, or those of one host, oldest first."""
        with context.db.reader() as session:
            return [cls._from_row(row) for row in snapshot_queries.requests(session, host=host)]

    @staticmethod
    @retry_on_deadlock
    def reap(context: RequestContext, image_id: str, seconds: float) -> bool:
        """Have what is left of a request for oneself, for that long: of several processes that
        want to put it right one gets it, and the next should that one die."""
        with context.db.writer() as session:
            return snapshot_queries.request_reap(session, image_id, seconds)

    @staticmethod
    def count_by_phase(context: RequestContext) -> list[tuple[str, str, str, int]]:
        """(host, action, phase, how many) of all the requests that there are."""
        with context.db.reader() as session:
            return list(snapshot_queries.requests_by_phase(session))

    @classmethod
    def _from_row(cls, row: models.SnapshotRequest) -> SnapshotRequest:
        return cls(**{field.name: getattr(row, field.name) for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class SnapshotTotal:
    """Of the snapshots of a host that have ended in one way: how many, and what they took.

    :ivar outcome: ``success``, or the name of the error's class.
    :ivar seconds: from the place in the pool to the end.
    :ivar bytes: that were uploaded.
    """

    host: str
    action: str
    method: str
    outcome: str
    count: int
    seconds: float
    bytes: int

    @classmethod
    def add(
        cls,
        context: RequestContext,
        host: str,
        action: str,
        method: str,
        outcome: str,
        seconds: float,
        size: int,
    ) -> None:
        """Count one that has ended. The sums never shrink."""
        key = {"host": host, "action": action, "method": method, "outcome": outcome}
        while not cls._add(context, key, seconds, size):
            try:
                cls._begin(context, key)
            except db_exception.DBDuplicateEntry:
                continue

    @staticmethod
    @retry_on_deadlock
    def _add(context: RequestContext, key: dict[str, str], seconds: float, size: int) -> bool:
        with context.db.writer() as session:
            return snapshot_queries.total_add(session, key, 1, seconds, size)

    @staticmethod
    @retry_on_deadlock
    def _begin(context: RequestContext, key: dict[str, str]) -> None:
        with context.db.writer() as session:
            snapshot_queries.total_begin(session, key)

    @classmethod
    def get_all(cls, context: RequestContext) -> list[SnapshotTotal]:
        """All of them."""
        with context.db.reader() as session:
            return [
                cls(**{field.name: getattr(row, field.name) for field in dataclasses.fields(cls)})
                for row in snapshot_queries.totals(session)
            ]
