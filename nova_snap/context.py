# SPDX-License-Identifier: Apache-2.0
"""Who asks, for which project, under which request id: carried through every room."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from oslo_context import context
from oslo_log import log
from oslo_utils import timeutils

if TYPE_CHECKING:
    from nova_snap.db.session import Database


LOG = log.getLogger(__name__)

_NAMES: Final = (
    "user_name",
    "project_name",
    "domain_name",
    "user_domain_name",
    "project_domain_name",
)
"""What oslo.context does not put into a message, but takes out of one."""


_FLAGS: Final = ("is_admin", "read_only", "show_deleted", "is_admin_project")
_TEXTS: Final = (
    *("user", "user_id", "project_id", "domain", "user_domain", "project_domain"),
    *("request_id", "global_request_id", "resource_uuid", "system_scope", *_NAMES),
)
_LONGEST: Final = 255


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
        """The context of a message; keys that another service added are ignored, and so are
        values that say nothing: the request is then one of nobody, or of no time.

        oslo.context knows a user as ``user``; Nova's contexts, and most services', say ``user_id``.
        """
        sane = _sane(values)
        known = {**sane, "user": sane.get("user") or sane.get("user_id")}
        made: RequestContext = super().from_dict(
            known,
            service_catalog=sane.get("service_catalog"),
            timestamp=sane.get("timestamp"),
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


def _sane(values: object) -> dict[str, Any]:
    """What of a message's context can be used: it comes from outside of this process."""
    if not isinstance(values, Mapping):
        LOG.warning("A message's context is a %s and says nothing", type(values).__name__)
        return {}
    sane = {key: value for key, value in values.items() if _is_sane(key, value)}
    if dropped := sorted(str(key)[:60] for key in values.keys() - sane.keys()):
        LOG.warning("What a message's context has as %s is not used", ", ".join(dropped))
    return sane


def _is_sane(key: str, value: object) -> bool:
    if value is None:
        return True
    if key in _FLAGS:
        return isinstance(value, bool)
    if key == "roles":
        return isinstance(value, list) and all(isinstance(role, str) for role in value)
    if key == "service_catalog":
        return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)
    if key == "timestamp":
        return isinstance(value, str) and is_time(value)
    if key == "auth_token":
        return isinstance(value, str)
    if key in _TEXTS:
        # They go into the log and into the database.
        return isinstance(value, str) and len(value) <= _LONGEST and value.isprintable()
    return True


def is_time(value: str) -> bool:
    """Whether this is a time of ISO 8601 that UTC has, too."""
    try:
        timeutils.normalize_time(timeutils.parse_isotime(value))
    except (ValueError, OverflowError):
        return False
    return True


def get_admin_context(db: Database | None = None) -> RequestContext:
    """A context of the service itself, with a request id of its own."""
    roles = ["admin", "member", "reader"]
    return RequestContext(is_admin=True, roles=roles, db=db, overwrite=False)
