# SPDX-License-Identifier: Apache-2.0
"""SQLite takes any value into any column, and looks for any. What others refuse is found here."""

import functools
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy import event, orm

from tests.fuzz.target import Finding

_TEXT_BYTES: Final = 65_535
_INTEGER: Final = 31
_BIG: Final = 63


@functools.cache
def watch() -> None:
    """Have every row checked that this process writes, from now on."""
    event.listen(orm.Mapper, "before_insert", _row)
    event.listen(orm.Mapper, "before_update", _row)
    event.listen(orm.Session, "do_orm_execute", _statement)
    event.listen(sa.Engine, "before_cursor_execute", _bound)


def _bound(_connection: Any, _cursor: Any, sql: str, values: Any, *_rest: Any) -> None:
    for each in values.values() if isinstance(values, Mapping) else values:
        if isinstance(each, str) and "\0" in each:
            raise Finding("PostgreSQL takes no NUL, not even to look for it", sql[:200])


def _row(mapper: orm.Mapper[Any], connection: sa.Connection, row: Any) -> None:
    del connection
    for key, prop in mapper.column_attrs.items():
        _check(prop.columns[0], getattr(row, key))


def _statement(state: orm.ORMExecuteState) -> None:
    statement = state.statement
    if isinstance(statement, sa.Update | sa.Insert):
        values: Mapping[str, Any] = statement.compile().params
        for key in values.keys() & statement.table.c.keys():
            _check(statement.table.c[key], values[key])


def _check(column: sa.ColumnElement[Any], value: Any) -> None:
    if value is None or isinstance(value, sa.ClauseElement):
        return
    wrong = _wrong(column.type, value)
    if wrong:
        raise Finding(f"no other database takes this into {column}: {wrong}", repr(value)[:200])


def _wrong(kind: Any, value: Any) -> str | None:
    if isinstance(kind, sa.String):
        if not isinstance(value, str):
            return f"it is a {type(value).__name__}"
        longest = kind.length or _TEXT_BYTES
        if (len(value) if kind.length else len(value.encode(errors="replace"))) > longest:
            return f"it is longer than {longest}"
        if "\0" in value:
            return "it has a NUL in it"
        if any("\ud800" <= character <= "\udfff" for character in value):
            return "it has a surrogate in it"
    elif isinstance(kind, sa.Integer) and not isinstance(kind, sa.Boolean):
        bits = _BIG if isinstance(kind, sa.BigInteger) else _INTEGER
        if not isinstance(value, int) or not -(1 << bits) <= value < 1 << bits:
            return f"it is no number of {bits + 1} bits"
    return None
