# SPDX-License-Identifier: Apache-2.0
"""Every statement that is sent to the database, each within the session that it is given."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from oslo_db import exception as db_exception
from oslo_utils import timeutils
from sqlalchemy import orm

from nova_snap.db import models, regexp

_MYSQL_REGEXP_ERROR = 1139
_POSTGRESQL_REGEXP_ERROR = "2201B"


class BadExpression(ValueError):
    """A regular expression that the database cannot use."""


@dataclasses.dataclass(frozen=True)
class InstanceFilters:
    """Which instances a list shows; a field that is ``None`` does not filter.

    :ivar name: a regular expression, as the database understands it, found in display_name.
    :ivar changes_since: with it, instances deleted since then are listed too. UTC, naive.
    """

    project_id: str | None = None
    user_id: str | None = None
    host: str | None = None
    uuid: str | None = None
    name: str | None = None
    image_ref: str | None = None
    vm_states: Sequence[str] | None = None
    task_states: Sequence[str | None] | None = None
    changes_since: datetime.datetime | None = None
    deleted: bool = False
    cleanup_pending: bool | None = None
    flavorid: str | None = None


# -- instances -------------------------------------------------------------------------------


def instance_get(
    session: orm.Session, uuid: str, project_id: str | None = None
) -> models.Instance | None:
    """The instance that is not deleted; ``project_id`` hides those of other projects."""
    query = sa.select(models.Instance).where(
        models.Instance.uuid == uuid, models.Instance.deleted == 0
    )
    if project_id is not None:
        query = query.where(models.Instance.project_id == project_id)
    return session.scalars(query).one_or_none()


def instance_update(
    session: orm.Session,
    uuid: str,
    values: Mapping[str, Any],
    expected: Mapping[str, Sequence[str | None]] | None = None,
) -> bool:
    """Set columns in one statement; with expected values it is a compare-and-swap.

    :param expected: what may be in a column, by its name.
    :returns: whether a row was changed.
    """
    statement = sa.update(models.Instance).where(
        models.Instance.uuid == uuid, models.Instance.deleted == 0
    )
    for name, allowed in (expected or {}).items():
        statement = statement.where(_in_or_null(_column(name), allowed))
    columns = {_column(key): value for key, value in values.items()}
    result = session.execute(statement.values(columns))
    return bool(result.rowcount)  # type: ignore[attr-defined]


def instance_report_progress(
    session: orm.Session, uuid: str, image_id: str, done: int, total: int
) -> None:
    """Set the progress columns of an instance whose snapshot is for ``image_id``."""
    session.execute(
        sa.update(models.Instance)
        .where(
            models.Instance.uuid == uuid,
            models.Instance.deleted == 0,
            models.Instance.snapshot_image_id == image_id,
            models.Instance.task_state.is_not(None),
        )
        .values(snapshot_bytes_done=done, snapshot_bytes_total=total)
    )


def instance_soft_delete(session: orm.Session, uuid: str, cleanup_pending: bool = False) -> bool:
    """Hide the instance; its row stays for its actions and faults."""
    now = timeutils.utcnow()
    statement = (
        sa.update(models.Instance)
        .where(models.Instance.uuid == uuid, models.Instance.deleted == 0)
        .values(
            deleted=models.Instance.id,
            deleted_at=now,
            terminated_at=now,
            vm_state="deleted",
            task_state=None,
            cleanup_pending=cleanup_pending,
        )
    )
    return bool(session.execute(statement).rowcount)  # type: ignore[attr-defined]


def instance_cleaned_up(session: orm.Session, uuid: str) -> None:
    """Nothing is left of a deleted instance on its host."""
    session.execute(
        sa.update(models.Instance)
        .where(models.Instance.uuid == uuid, models.Instance.deleted != 0)
        .values(cleanup_pending=False)
    )


def instance_list(
    session: orm.Session,
    filters: InstanceFilters,
    limit: int | None = None,
    marker: models.Instance | None = None,
    sort: Sequence[tuple[str, str]] = (("created_at", "desc"),),
) -> Sequence[models.Instance]:
    """Instances in the order of ``sort``, pairs of column and direction; ``id`` decides ties.

    :raises BadExpression: if ``filters.name`` is none that the database can use.
    """
    query = session.query(models.Instance).filter(*_conditions(filters))
    if filters.name is not None:
        _check_expression(session, filters.name)
        query = query.filter(models.Instance.display_name.regexp_match(filters.name))
    last = sort[-1][1] if sort else "desc"
    query = _page(query, [*sort, ("id", last)], marker).limit(limit)
    try:
        return list(query)
    except (db_exception.DBError, sa.exc.DBAPIError) as error:
        if filters.name is not None and _is_about_expression(error):
            raise BadExpression("the database cannot use this regular expression") from error
        raise


def _page(
    query: orm.Query[models.Instance],
    sort: Sequence[tuple[str, str]],
    marker: models.Instance | None,
) -> orm.Query[models.Instance]:
    """The instances after ``marker`` in the order of ``sort``, whose last key is unique.

    NULL comes last, whatever the direction: databases differ, and oslo.db's paginate_query loses
    the rows that have it.
    """
    after: list[sa.ColumnElement[bool]] = []
    same: list[sa.ColumnElement[bool]] = []
    for name, direction in sort:
        column = _column(name)
        query = query.order_by(
            column.is_(None), column.desc() if direction == "desc" else column.asc()
        )
        if marker is None:
            continue
        value = getattr(marker, name)
        if value is not None:
            beyond = column < value if direction == "desc" else column > value
            after.append(sa.and_(*same, sa.or_(beyond, column.is_(None))))
        same.append(column.is_(None) if value is None else column == value)
    return query.filter(sa.or_(*after)) if after else query


def instance_get_any(session: orm.Session, uuid: str) -> models.Instance | None:
    """The newest row with that uuid, deleted or not: a list may go on after one that is gone."""
    query = sa.select(models.Instance).where(models.Instance.uuid == uuid)
    return session.scalars(query.order_by(models.Instance.id.desc()).limit(1)).first()


def _conditions(filters: InstanceFilters) -> list[sa.ColumnElement[bool]]:
    table = models.Instance
    found: list[sa.ColumnElement[bool]] = []
    for name in ("project_id", "user_id", "host", "uuid", "image_ref"):
        value = getattr(filters, name)
        if value is not None:
            found.append(getattr(table, name) == value)
    if filters.cleanup_pending is not None:
        found.append(table.cleanup_pending == filters.cleanup_pending)
    if filters.flavorid is not None:
        found.append(table.flavor["flavorid"].as_string() == filters.flavorid)
    if filters.vm_states is not None:
        found.append(table.vm_state.in_(filters.vm_states))
    if filters.task_states is not None:
        found.append(_in_or_null(table.task_state, filters.task_states))
    if filters.changes_since is not None:
        changed = sa.func.coalesce(table.updated_at, table.created_at)
        found.append(changed >= filters.changes_since)
    elif filters.deleted:
        found.append(table.deleted != 0)
    else:
        found.append(table.deleted == 0)
    return found


def _check_expression(session: orm.Session, expression: str) -> None:
    try:
        regexp.check(expression)
    except ValueError as error:
        raise BadExpression(f"not a regular expression: {error}") from error
    connection = session.connection()
    if connection.dialect.name != "sqlite":
        return
    try:
        regexp.compiled(expression)
    except regexp.UnsupportedExpression as error:
        raise BadExpression(f"SQLite cannot use this regular expression: {error}") from error
    # In place of SQLAlchemy's own, which is Python's re.
    driver: Any = connection.connection.driver_connection
    driver.create_function("regexp", 2, _sqlite_regexp, deterministic=True)


def _sqlite_regexp(expression: str, value: object) -> bool:
    return value is not None and regexp.compiled(expression)(str(value))


def _is_about_expression(error: Exception) -> bool:
    """Whether MariaDB or PostgreSQL objects to an expression that Python can use."""
    wrapped = getattr(error, "inner_exception", None) or error
    cause = getattr(wrapped, "orig", None)
    number = cause.args[0] if cause is not None and cause.args else None
    return (
        number == _MYSQL_REGEXP_ERROR or getattr(cause, "pgcode", None) == _POSTGRESQL_REGEXP_ERROR
    )


def _in_or_null(
    column: orm.InstrumentedAttribute[str | None], values: Sequence[str | None]
) -> sa.ColumnElement[bool]:
    """``column IN (...)`` that knows NULL, which SQL's IN never finds."""
    known = [value for value in values if value is not None]
    found: sa.ColumnElement[bool] = column.in_(known)
    return sa.or_(found, column.is_(None)) if None in values else found


def _column(name: str) -> orm.InstrumentedAttribute[Any]:
    attribute: orm.InstrumentedAttribute[Any] = getattr(models.Instance, name)
    return attribute


# -- what belongs to an instance -------------------------------------------------------------


def bdms_delete(session: orm.Session, instance_id: int) -> None:
    """Forget the disks of an instance."""
    model = models.BlockDeviceMapping
    session.execute(sa.delete(model).where(model.instance_id == instance_id))


def bdms_of(
    session: orm.Session, uuids: Sequence[str]
) -> Sequence[tuple[str, models.BlockDeviceMapping]]:
    """(instance uuid, mapping) of all the instances, in the order in which they were added."""
    query = (
        sa.select(models.Instance.uuid, models.BlockDeviceMapping)
        .join(models.Instance, models.Instance.id == models.BlockDeviceMapping.instance_id)
        .where(models.Instance.uuid.in_(uuids), models.Instance.deleted == 0)
        .order_by(models.BlockDeviceMapping.id)
    )
    return [(row[0], row[1]) for row in session.execute(query)]


def latest_faults(session: orm.Session, uuids: Sequence[str]) -> Sequence[models.InstanceFault]:
    """The newest fault of each instance that has one."""
    newest = (
        sa.select(sa.func.max(models.InstanceFault.id))
        .where(models.InstanceFault.instance_uuid.in_(uuids))
        .group_by(models.InstanceFault.instance_uuid)
    )
    query = sa.select(models.InstanceFault).where(models.InstanceFault.id.in_(newest))
    return session.scalars(query).all()
