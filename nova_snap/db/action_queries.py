# SPDX-License-Identifier: Apache-2.0
"""Every statement about actions and their events."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_utils import timeutils
from sqlalchemy import orm

from nova_snap.db import models


def action_get(
    session: orm.Session, instance_uuid: str, request_id: str
) -> models.InstanceAction | None:
    """The newest action of that request."""
    query = (
        sa.select(models.InstanceAction)
        .where(
            models.InstanceAction.instance_uuid == instance_uuid,
            models.InstanceAction.request_id == request_id,
        )
        .order_by(models.InstanceAction.id.desc())
        .limit(1)
    )
    return session.scalars(query).first()


def actions_of(
    session: orm.Session,
    instance_uuid: str,
    *,
    limit: int | None = None,
    marker: models.InstanceAction | None = None,
    changes_since: datetime.datetime | None = None,
    changes_before: datetime.datetime | None = None,
) -> Sequence[models.InstanceAction]:
    """Actions of the instance, newest first.

    :param marker: the last one of the page before.
    :param changes_since: only those that changed then or later; UTC, naive.
    :param changes_before: only those that changed then or earlier.
    """
    table = models.InstanceAction
    query = sa.select(table).where(table.instance_uuid == instance_uuid)
    changed = sa.func.coalesce(table.updated_at, table.start_time)
    if marker is not None:
        query = query.where(table.id < marker.id)
    if changes_since is not None:
        query = query.where(changed >= changes_since)
    if changes_before is not None:
        query = query.where(changed <= changes_before)
    return session.scalars(query.order_by(table.id.desc()).limit(limit)).all()


def action_update(
    session: orm.Session, action_id: int, values: Mapping[str, Any], *, unless_ended: bool = False
) -> None:
    """Set columns of an action.

    :param unless_ended: leave it alone if it has ended.
    """
    table = models.InstanceAction
    statement = sa.update(table).where(table.id == action_id)
    if unless_ended:
        statement = statement.where(table.finish_time.is_(None))
    session.execute(statement.values(**values))


def events_of(session: orm.Session, action_id: int) -> Sequence[models.InstanceActionEvent]:
    """The events of an action, newest first."""
    query = (
        sa.select(models.InstanceActionEvent)
        .where(models.InstanceActionEvent.action_id == action_id)
        .order_by(models.InstanceActionEvent.id.desc())
    )
    return session.scalars(query).all()


def event_update(
    session: orm.Session, event_id: int, values: Mapping[str, Any], *, unless_ended: bool = False
) -> None:
    """Set columns of an event.

    :param unless_ended: leave it alone if it has ended.
    """
    table = models.InstanceActionEvent
    statement = sa.update(table).where(table.id == event_id)
    if unless_ended:
        statement = statement.where(table.finish_time.is_(None))
    session.execute(statement.values(**values))


def action_touch(session: orm.Session, action_id: int) -> None:
    """Say that something about the action has changed."""
    action_update(session, action_id, {"updated_at": timeutils.utcnow()})


def unfinished_events_of(
    session: orm.Session, host: str
) -> Sequence[tuple[models.InstanceActionEvent, models.InstanceAction]]:
    """What a host has begun and not ended, oldest first."""
    query = (
        sa.select(models.InstanceActionEvent, models.InstanceAction)
        .join(
            models.InstanceAction, models.InstanceAction.id == models.InstanceActionEvent.action_id
        )
        .where(
            models.InstanceActionEvent.host == host,
            models.InstanceActionEvent.finish_time.is_(None),
        )
        .order_by(models.InstanceActionEvent.id)
    )
    return [(row[0], row[1]) for row in session.execute(query)]
