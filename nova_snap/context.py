# SPDX-License-Identifier: Apache-2.0
"""Who asks, for which project, under which request id: carried through every room."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from oslo_context import context
from oslo_utils import timeutils

if TYPE_CHECKING:
    from nova_snap.db.session import Database


_NAMES: Final = (
    "user_name",
    "project_name",
    "domain_name",
    "user_domain_name",
    "project_domain_name",
)
"""What oslo.context does not put into a message, but takes out of one."""


class RequestContext(context.RequestContext):
    """The security context of one request.

    :ivar db: the database of this process. It never travels in a message: whoever receives a
        context sets its own.
    :ivar service_catalog: Keystone's catalog, empty without Keystone.
    :ivar timestamp: when the request came in.
    """

    def __init__(
        self,
        *args: Any,
        db: Database | None = None,
        service_catalog: list[dict[str, Any]] | None = None,
        timestamp: datetime.datetime | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._db = db
        self.service_catalog = service_catalog or []
        if isinstance(timestamp, str):
            timestamp = timeutils.normalize_time(timeutils.parse_isotime(timestamp))
        self.timestamp: datetime.datetime = timestamp or timeutils.utcnow()

    @property
    def db(self) -> Database:
        """:raises RuntimeError: if this context was made without one."""
        if self._db is None:
            raise RuntimeError("this request context has no database")
        return self._db

    @db.setter
    def db(self, value: Database) -> None:
        self._db = value

    def to_dict(self) -> dict[str, Any]:
        """All that another process needs, as JSON types."""
        values: dict[str, Any] = super().to_dict()
        for name in _NAMES:
            values[name] = getattr(self, name)
        values["service_catalog"] = self.service_catalog
        values["timestamp"] = self.timestamp.isoformat()
        return values

    def get_logging_values(self) -> dict[str, Any]:
        """What each line of a log in JSON has: no token, and no catalog."""
        values: dict[str, Any] = super().get_logging_values()
        del values["service_catalog"]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], **kwargs: Any) -> RequestContext:
        """The context of a message; keys that another service added are ignored.

        oslo.context knows a user as ``user``; Nova's contexts, and most services', say ``user_id``.
        """
        known = {**values, "user": values.get("user") or values.get("user_id")}
        made: RequestContext = super().from_dict(
            known,
            service_catalog=values.get("service_catalog"),
            timestamp=values.get("timestamp"),
            **kwargs,
        )
        return made

    def elevated(self) -> RequestContext:
        """The same request with administrator's rights, for the service's own housekeeping."""
        made = self.from_dict(self.to_dict())
        made.is_admin = True
        made.roles = sorted({*made.roles, "admin"})
        made._db = self._db
        return made


def get_admin_context(db: Database | None = None) -> RequestContext:
    """A context of the service itself, with a request id of its own."""
    roles = ["admin", "member", "reader"]
    return RequestContext(is_admin=True, roles=roles, db=db, overwrite=False)
