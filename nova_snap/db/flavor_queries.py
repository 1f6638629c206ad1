# SPDX-License-Identifier: Apache-2.0
"""The statements about flavors, each within the session that it is given."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from oslo_db.exception import DBDuplicateEntry as Duplicate
from sqlalchemy import orm

from nova_snap.db import models

__all__ = [
    "Duplicate",
    "FlavorFilters",
    "flavor_delete",
    "flavor_get",
    "flavor_list",
    "flavor_lock",
]


@dataclasses.dataclass(frozen=True)
class FlavorFilters:
    """Which flavors a list shows; a field that is ``None`` does not filter."""

    is_public: bool | None = None
    min_memory_mb: int | None = None
    min_root_gb: int | None = None


def flavor_get(session: orm.Session, **by: Any) -> models.Flavor | None:
    """The flavor whose columns have these values; they must name one, such as ``flavorid``."""
    return session.scalars(sa.select(models.Flavor).filter_by(**by)).one_or_none()


def flavor_lock(session: orm.Session, flavorid: str) -> models.Flavor | None:
    """The flavor; nobody else changes it until the session ends."""
    query = sa.select(models.Flavor).filter_by(flavorid=flavorid).with_for_update()
    return session.scalars(query).one_or_none()


def flavor_delete(session: orm.Session, flavorid: str) -> bool:
    """:returns: whether there was such a flavor."""
    statement = sa.delete(models.Flavor).where(models.Flavor.flavorid == flavorid)
    return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]


def flavor_list(
    session: orm.Session,
    filters: FlavorFilters,
    limit: int | None,
    marker: models.Flavor | None,
    sort: Sequence[tuple[str, str]],
) -> Sequence[models.Flavor]:
    """Flavors after ``marker`` in the order of ``sort``, pairs of column and direction; ``id``
    decides ties."""
    table = models.Flavor
    query = sa.select(table).limit(limit)
    if filters.is_public is not None:
        query = query.where(table.is_public == filters.is_public)
    if filters.min_memory_mb is not None:
        query = query.where(table.memory_mb >= filters.min_memory_mb)
    if filters.min_root_gb is not None:
        query = query.where(table.root_gb >= filters.min_root_gb)
    after: list[sa.ColumnElement[bool]] = []
    same: list[sa.ColumnElement[bool]] = []
    for name, direction in [*sort, ("id", "asc")]:
        column = getattr(table, name)
        # Databases differ in where NULL comes: here it is always the last.
        descending = direction == "desc"
        query = query.order_by(column.is_(None), column.desc() if descending else column.asc())
        if marker is not None:
            value = getattr(marker, name)
            if value is not None:
                beyond = column < value if descending else column > value
                after.append(sa.and_(*same, sa.or_(beyond, column.is_(None))))
            same.append(column.is_(None) if value is None else column == value)
    if marker is not None:
        query = query.where(sa.or_(*after))
    return session.scalars(query).all()
