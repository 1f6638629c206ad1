# SPDX-License-Identifier: Apache-2.0
"""Statements about services and their compute nodes, each within the session that it is given."""

import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_utils import timeutils, uuidutils
from sqlalchemy import orm

from nova_snap.db import models


def service_get(session: orm.Session, host: str, binary: str) -> models.Service | None:
    """The service of that name on that host."""
    query = sa.select(models.Service).where(
        models.Service.host == host, models.Service.binary == binary
    )
    return session.scalars(query).one_or_none()


def service_find(
    session: orm.Session,
    *,
    id: int | None = None,  # noqa: A002
    uuid: str | None = None,
) -> models.Service | None:
    """The service with that id, or with that uuid."""
    wanted = models.Service.uuid == uuid if uuid is not None else models.Service.id == id
    return session.scalars(sa.select(models.Service).where(wanted)).one_or_none()


def services(
    session: orm.Session, host: str | None = None, binary: str | None = None
) -> Sequence[models.Service]:
    """The services, in the order in which they were first seen."""
    query = sa.select(models.Service).order_by(models.Service.id)
    if host is not None:
        query = query.where(models.Service.host == host)
    if binary is not None:
        query = query.where(models.Service.binary == binary)
    return session.scalars(query).all()


def service_register(
    session: orm.Session, host: str, binary: str, values: Mapping[str, Any]
) -> models.Service:
    """The service of that name on that host with these values, made if there is none."""
    # The writing statement is the first: SQLite lets nobody write who has read before another did.
    statement = sa.update(models.Service).where(
        models.Service.host == host, models.Service.binary == binary
    )
    if not session.execute(statement.values(dict(values))).rowcount:  # type: ignore[attr-defined]
        uuid = uuidutils.generate_uuid()
        session.add(models.Service(uuid=uuid, host=host, binary=binary, **values))
        session.flush()
    found = service_get(session, host, binary)
    if found is None:
        raise RuntimeError(f"service {binary} of {host} vanished within its own transaction")
    return found


def service_report(session: orm.Session, service_id: int, now: datetime.datetime) -> bool:
    """Count one more report. ``False`` if somebody has deleted the service.

    ``updated_at`` stays: it is of what an administrator changed, and of :func:`service_ends_work`.
    """
    statement = (
        sa.update(models.Service)
        .where(models.Service.id == service_id)
        .values(
            report_count=models.Service.report_count + 1,
            last_seen_up=now,
            updated_at=models.Service.updated_at,
        )
    )
    return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]


def service_ends_work(session: orm.Session, service_id: int) -> bool:
    """Count one more report, not as a sign that new work may come: only ``updated_at`` says when.
    ``False`` if somebody has deleted the service.
    """
    statement = (
        sa.update(models.Service)
        .where(models.Service.id == service_id)
        .values(report_count=models.Service.report_count + 1, updated_at=timeutils.utcnow())
    )
    return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]


def service_update(session: orm.Session, service_id: int, values: Mapping[str, Any]) -> bool:
    """Set columns; ``False`` if the service is gone."""
    statement = (
        sa.update(models.Service).where(models.Service.id == service_id).values(dict(values))
    )
    return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]


def service_delete(session: orm.Session, service_id: int) -> bool:
    """Delete the service with its compute node; ``False`` if it is gone."""
    # SQLite keeps no foreign keys unless each connection asks for it.
    session.execute(
        sa.delete(models.ComputeNode).where(models.ComputeNode.service_id == service_id)
    )
    statement = sa.delete(models.Service).where(models.Service.id == service_id)
    return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]


def compute_node_record(
    session: orm.Session, service_id: int, resources: Mapping[str, Any]
) -> None:
    """Keep the resources of a service's host, which has one compute node."""
    statement = sa.update(models.ComputeNode).where(models.ComputeNode.service_id == service_id)
    values = {"resources": dict(resources)}
    if not session.execute(statement.values(values)).rowcount:  # type: ignore[attr-defined]
        uuid = uuidutils.generate_uuid()
        session.add(models.ComputeNode(uuid=uuid, service_id=service_id, **values))


def compute_nodes(
    session: orm.Session,
    *,
    id: int | None = None,  # noqa: A002
    uuid: str | None = None,
    pattern: str | None = None,
    after: int | None = None,
    limit: int | None = None,
) -> Sequence[tuple[models.ComputeNode, models.Service]]:
    """Compute nodes with their services, by id.

    :param pattern: a part of the host's name.
    :param after: the id of the last one of the page before.
    """
    node = models.ComputeNode
    query = (
        sa.select(node, models.Service)
        .join(models.Service, models.Service.id == node.service_id)
        .order_by(node.id)
        .limit(limit)
    )
    if id is not None:
        query = query.where(node.id == id)
    if uuid is not None:
        query = query.where(node.uuid == uuid)
    if pattern is not None:
        query = query.where(models.Service.host.contains(pattern, autoescape=True))
    if after is not None:
        query = query.where(node.id > after)
    return [(row[0], row[1]) for row in session.execute(query)]
