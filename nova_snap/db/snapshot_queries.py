# SPDX-License-Identifier: Apache-2.0
"""Every statement about the requests for snapshots, and about what became of them."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_utils import timeutils
from sqlalchemy import orm

from nova_snap.db import models


def request_get(session: orm.Session, image_id: str) -> models.SnapshotRequest | None:
    """The request for that image."""
    table = models.SnapshotRequest
    return session.scalars(sa.select(table).where(table.image_id == image_id)).first()


def requests(
    session: orm.Session, *, before: datetime.datetime | None = None, host: str | None = None
) -> Sequence[models.SnapshotRequest]:
    """Requests by how long they have been in their phase, the longest first.

    :param before: only those that have been in it since before then.
    """
    table = models.SnapshotRequest
    query = sa.select(table).order_by(table.phase_since)
    if before is not None:
        query = query.where(table.phase_since < before)
    if host is not None:
        query = query.where(table.host == host)
    return session.scalars(query).all()


def request_add(session: orm.Session, values: Mapping[str, Any]) -> None:
    """Add a request; its image has none yet."""
    session.add(models.SnapshotRequest(**values, phase_since=timeutils.utcnow()))


def request_advance(session: orm.Session, image_id: str, phase: str) -> bool:
    """Say what is being done for an image.

    :returns: whether it has a request.
    """
    table = models.SnapshotRequest
    statement = sa.update(table).where(table.image_id == image_id)
    result = session.execute(statement.values(phase=phase, phase_since=timeutils.utcnow()))
    return bool(result.rowcount)  # type: ignore[attr-defined]


def request_reap(session: orm.Session, image_id: str, seconds: float) -> bool:
    """Have a request for oneself, in one statement.

    :returns: whether nobody else has it.
    """
    table, now = models.SnapshotRequest, timeutils.utcnow()
    free = sa.or_(table.reaped_until.is_(None), table.reaped_until < now)
    statement = sa.update(table).where(table.image_id == image_id, free)
    until = now + datetime.timedelta(seconds=seconds)
    return bool(session.execute(statement.values(reaped_until=until)).rowcount)  # type: ignore[attr-defined]


def request_delete(session: orm.Session, image_id: str) -> None:
    """Forget a request: it may be gone already."""
    table = models.SnapshotRequest
    session.execute(sa.delete(table).where(table.image_id == image_id))


def requests_by_phase(session: orm.Session) -> Sequence[tuple[str, str, str, int]]:
    """(host, action, phase, how many) of the requests that there are."""
    table = models.SnapshotRequest
    query = sa.select(table.host, table.action, table.phase, sa.func.count()).group_by(
        table.host, table.action, table.phase
    )
    return [(row[0] or "", row[1], row[2], row[3]) for row in session.execute(query)]


# -- what became of them ---------------------------------------------------------------------


def total_add(
    session: orm.Session, key: Mapping[str, str], count: int, seconds: float, size: int
) -> bool:
    """Add to a sum, in one statement.

    :param key: host, action, method and outcome.
    :returns: whether there is such a sum.
    """
    table = models.SnapshotTotal
    statement = (
        sa.update(table)
        .where(*(getattr(table, name) == value for name, value in key.items()))
        .values(
            {
                table.count: table.count + count,
                table.seconds: table.seconds + seconds,
                table.bytes: table.bytes + size,
            }
        )
    )
    return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]


def total_begin(session: orm.Session, key: Mapping[str, str]) -> None:
    """A new sum, of nothing."""
    session.add(models.SnapshotTotal(**key, count=0, seconds=0.0, bytes=0))


def totals(session: orm.Session) -> Sequence[models.SnapshotTotal]:
    """All the sums, in an order that stays."""
    table = models.SnapshotTotal
    query = sa.select(table).order_by(table.host, table.action, table.method, table.outcome)
    return session.scalars(query).all()
