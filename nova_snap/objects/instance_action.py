# SPDX-License-Identifier: Apache-2.0
"""What was asked of an instance, what became of it, and why."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import itertools
import traceback
from collections.abc import Container, Iterator

from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.db import action_queries, models
from nova_snap.db.session import retry_on_failover

CREATE = "create"
DELETE = "delete"
CREATE_IMAGE = "createImage"
CREATE_BACKUP = "createBackup"

SUCCESS = "Success"
ERROR = "Error"

_MESSAGE_LENGTH = 255


@dataclasses.dataclass(frozen=True)
class InstanceAction:
    """Something that a user asked for.

    :ivar message: why it failed, in words; ``None`` while it runs and when it did not.
    """

    id: int
    instance_uuid: str
    action: str
    request_id: str
    user_id: str | None
    project_id: str | None
    start_time: datetime.datetime
    finish_time: datetime.datetime | None
    message: str | None
    updated_at: datetime.datetime | None

    @classmethod
    def start(cls, context: RequestContext, instance_uuid: str, action: str) -> InstanceAction:
        """Record that the context's request asks for ``action``."""
        return cls._start(context, instance_uuid, action, itertools.count())

    @classmethod
    @retry_on_failover
    def _start(
        cls, context: RequestContext, instance_uuid: str, action: str, tries: Iterator[int]
    ) -> InstanceAction:
        again = next(tries) > 0
        with context.db.writer() as session:
            known = again and action_queries.action_get(session, instance_uuid, context.request_id)
            if known and known.action == action:
                # The try before was done, and only its answer was lost.
                return cls._from_row(known)
            row = models.InstanceAction(
                instance_uuid=instance_uuid,
                action=action,
                request_id=context.request_id,
                user_id=context.user_id,
                project_id=context.project_id,
                start_time=context.timestamp,
                updated_at=context.timestamp,
            )
            session.add(row)
            session.flush()
            return cls._from_row(row)

    @classmethod
    def get_by_request_id(
        cls, context: RequestContext, instance_uuid: str, request_id: str
    ) -> InstanceAction | None:
        """The action of that request; ``None`` if it asked for nothing."""
        with context.db.reader() as session:
            row = action_queries.action_get(session, instance_uuid, request_id)
            return None if row is None else cls._from_row(row)

    @classmethod
    def get_by_instance_uuid(
        cls,
        context: RequestContext,
        instance_uuid: str,
        *,
        limit: int | None = None,
        marker: str | None = None,
        changes_since: datetime.datetime | None = None,
        changes_before: datetime.datetime | None = None,
    ) -> list[InstanceAction]:
        """The actions of an instance, which may be a deleted one; newest first.

        :param marker: request id of the last action of the page before.
        :param changes_since: only those that changed then or later; UTC, naive.
        :param changes_before: only those that changed then or earlier.
        :raises nova_snap.exception.MarkerNotFound: if no action has that request id.
        """
        with context.db.reader() as session:
            last = None
            if marker is not None:
                last = action_queries.action_get(session, instance_uuid, marker)
                if last is None:
                    raise exception.MarkerNotFound(marker=marker)
            rows = action_queries.actions_of(
                session,
                instance_uuid,
                limit=limit,
                marker=last,
                changes_since=changes_since,
                changes_before=changes_before,
            )
            return [cls._from_row(row) for row in rows]

    @retry_on_failover
    def finish(
        self, context: RequestContext, error: str | None = None, *, unless_ended: bool = False
    ) -> None:
        """Record that it ended; ``error`` says why it failed.

        :param unless_ended: whoever has said so first is right: what was given up from elsewhere
            may still end where it ran.
        """
        values = {
            "finish_time": timeutils.utcnow(),
            "message": None if error is None else error[:_MESSAGE_LENGTH],
        }
        with context.db.writer() as session:
            action_queries.action_update(session, self.id, values, unless_ended=unless_ended)

    def events(self, context: RequestContext) -> list[InstanceActionEvent]:
        """Its steps, newest first."""
        with context.db.reader() as session:
            rows = action_queries.events_of(session, self.id)
            return [InstanceActionEvent._from_row(row) for row in rows]

    @classmethod
    def _from_row(cls, row: models.InstanceAction) -> InstanceAction:
        return cls(**{field.name: getattr(row, field.name) for field in dataclasses.fields(cls)})


@dataclasses.dataclass
class InstanceActionEvent:
    """One step of an action, on one host.

    :ivar result: ``Success`` or ``Error``; ``None`` while it runs.
    :ivar details: in words: how it was done, or why it failed.
    :ivar traceback: for the operator.
    """

    id: int
    action_id: int
    event: str
    host: str | None
    start_time: datetime.datetime
    finish_time: datetime.datetime | None
    result: str | None
    details: str | None
    traceback: str | None

    @classmethod
    def begin(
        cls, context: RequestContext, action: InstanceAction, event: str, host: str
    ) -> InstanceActionEvent:
        """A step that begins now. Whoever begins it ends it: :meth:`succeed`, :meth:`fail`."""
        return cls._begin(context, action, event, host, itertools.count())

    @classmethod
    @retry_on_failover
    def _begin(
        cls,
        context: RequestContext,
        action: InstanceAction,
        event: str,
        host: str,
        tries: Iterator[int],
    ) -> InstanceActionEvent:
        again = next(tries) > 0
        with context.db.writer() as session:
            for known in action_queries.events_of(session, action.id) if again else ():
                if (known.event, known.host, known.finish_time) == (event, host, None):
                    # The try before was done, and only its answer was lost.
                    return cls._from_row(known)
            row = models.InstanceActionEvent(
                action_id=action.id, event=event, host=host, start_time=timeutils.utcnow()
            )
            session.add(row)
            action_queries.action_touch(session, action.id)
            session.flush()
            return cls._from_row(row)

    @classmethod
    @contextlib.contextmanager
    def record(
        cls, context: RequestContext, action: InstanceAction, event: str, host: str
    ) -> Iterator[InstanceActionEvent]:
        """A step from the beginning of the block to its end; an exception makes it an error.

        What the block puts into ``details`` is recorded; an exception's message otherwise.
        """
        step = cls.begin(context, action, event, host)
        try:
            yield step
        except Exception as error:
            step._finish(
                context,
                ERROR,
                step.details or str(error),
                traceback.format_exc(),
                reason=exception.for_user(error),
            )
            raise
        step.succeed(context, step.details)

    def succeed(self, context: RequestContext, details: str | None) -> None:
        """Record that it ended well."""
        self._finish(context, SUCCESS, details)

    def fail(self, context: RequestContext, reason: str) -> None:
        """Record that it ended in an error, for a process that did not live to do so."""
        self._finish(context, ERROR, reason, reason=reason)

    @classmethod
    def fail_unfinished(
        cls, context: RequestContext, host: str, reason: str, spare: Container[int] = ()
    ) -> int:
        """End every step that ``host`` has begun and not ended, and the actions they belong to,
        for a process that did not live to do so.

        :param spare: ids of actions that are left alone.
        :returns: how many there were.
        """
        with context.db.reader() as session:
            found = [
                (cls._from_row(event), InstanceAction._from_row(action))
                for event, action in action_queries.unfinished_events_of(session, host)
                if action.id not in spare
            ]
        for event, action in found:
            event.fail(context, reason)
            if action.finish_time is None:
                action.finish(context, reason)
        return len(found)

    @retry_on_failover
    def note(self, context: RequestContext, details: str) -> None:
        """Record how far the step is; nothing, if it has ended by now."""
        with context.db.writer() as session:
            action_queries.event_update(session, self.id, {"details": details}, unless_ended=True)

    @retry_on_failover
    def _finish(
        self,
        context: RequestContext,
        result: str,
        details: str | None,
        trace: str | None = None,
        *,
        reason: str | None = None,
    ) -> None:
        """:param reason: for the action, in the same transaction: nobody finds a step that failed
        in an action that does not say why.
        """
        values = {
            "finish_time": timeutils.utcnow(),
            "result": result,
            "details": details,
            "traceback": trace,
        }
        with context.db.writer() as session:
            action_queries.event_update(session, self.id, values)
            action_queries.action_touch(session, self.action_id)
            if reason is not None:
                said = {"message": reason[:_MESSAGE_LENGTH]}
                action_queries.action_update(session, self.action_id, said, unless_ended=True)

    @classmethod
    def _from_row(cls, row: models.InstanceActionEvent) -> InstanceActionEvent:
        return cls(**{field.name: getattr(row, field.name) for field in dataclasses.fields(cls)})
