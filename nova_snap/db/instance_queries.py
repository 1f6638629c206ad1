# SPDX-License-Identifier: Apache-2.0
"""Sums over instances, and changes of one that depend on what it says now."""

from collections.abc import Callable

import sqlalchemy as sa
from oslo_utils import timeutils
from sqlalchemy import orm

from nova_snap.db import models


def usage_of_project(session: orm.Session, project_id: str) -> tuple[int, int, int]:
    """How many instances the project has, their virtual CPUs, their MiB."""
    table = models.Instance
    query = sa.select(
        sa.func.count(), sa.func.sum(table.vcpus), sa.func.sum(table.memory_mb)
    ).where(table.project_id == project_id, table.deleted == 0)
    count, vcpus, memory_mb = session.execute(query).one()
    return int(count), int(vcpus or 0), int(memory_mb or 0)


def memory_by_host(session: orm.Session) -> dict[str, int]:
    """MiB that the instances of each host have together; hosts with none are left out."""
    table = models.Instance
    query = (
        sa.select(table.host, sa.func.sum(table.memory_mb))
        .where(table.deleted == 0, table.host.is_not(None))
        .group_by(table.host)
    )
    return {str(host): int(memory_mb) for host, memory_mb in session.execute(query)}


def change_metadata(
    session: orm.Session, uuid: str, change: Callable[[dict[str, str]], dict[str, str]]
) -> dict[str, str] | None:
    """Replace the metadata by what ``change`` makes of them; changes at the same time wait.

    :returns: the new metadata; ``None`` if there is no such instance.
    """
    table = models.Instance
    one = (table.uuid == uuid, table.deleted == 0)
    # The write comes first: every database then holds the row, and the read is of now.
    touched = session.execute(sa.update(table).where(*one).values(updated_at=timeutils.utcnow()))
    if not touched.rowcount:  # type: ignore[attr-defined]
        return None
    new = change(dict(session.scalars(sa.select(table.meta).where(*one)).one()))
    session.execute(sa.update(table).where(*one).values({table.meta: new}))
    return new
