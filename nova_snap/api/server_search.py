# SPDX-License-Identifier: Apache-2.0
"""What the query string of a list of servers asks for: which ones, how many, in which order."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence
from typing import Final

from oslo_utils import strutils, timeutils

from nova_snap import exception
from nova_snap.api import errors, policies, text
from nova_snap.api.microversion import Microversion
from nova_snap.api.policies import servers as rules
from nova_snap.api.schemas import servers as schema
from nova_snap.api.schemas.types import words
from nova_snap.api.validation import check_query
from nova_snap.api.views import server_status
from nova_snap.api.wsgi import Request
from nova_snap.compute import vm_states
from nova_snap.context import RequestContext
from nova_snap.objects.instance import InstanceFilters

Query = Mapping[str, list[str]]

# The filters that everyone has, and from which microversion on. An administrator has all.
_FOR_ALL: Final[Mapping[str, int]] = {
    **dict.fromkeys(
        ("reservation_id", "name", "status", "image", "flavor", "ip", "changes-since"), 1
    ),
    "all_tenants": 1,
    "ip6": 5,
    **dict.fromkeys(schema.TAG_FILTERS, 26),
    "changes-before": 66,
    "locked": 73,
    **dict.fromkeys(
        words(
            "availability_zone config_drive key_name created_at launched_at terminated_at "
            "power_state task_state vm_state progress user_id"
        ),
        83,
    ),
}

_PAGING: Final = ("sort_key", "sort_dir", "limit", "marker")

_SUPPORTED: Final = frozenset(
    words(
        "name display_name status image image_ref flavor uuid host user_id project_id tenant_id "
        "vm_state task_state changes-since deleted soft_deleted all_tenants"
    )
)

# Whatever else Nova sorts by is the same for every instance here, or is not kept in a column.
SORTABLE: Final = frozenset(
    words(
        "availability_zone created_at display_description display_name host hostname image_ref "
        "kernel_id launched_at power_state project_id ramdisk_id root_device_name task_state "
        "terminated_at updated_at user_id uuid vm_state"
    )
)
_ADMIN_SORT_KEYS: Final = ("host", "node")


@dataclasses.dataclass(frozen=True)
class Search:
    """A list that was asked for.

    :ivar marker: uuid of the last server of the page before.
    :ivar sort: pairs of column and direction.
    """

    filters: InstanceFilters
    limit: int
    marker: str | None
    sort: tuple[tuple[str, str], ...]


def parse(
    request: Request, enforcer: policies.Enforcer, *, detailed: bool, max_limit: int
) -> Search | None:
    """Read the query string.

    :param max_limit: the longest page that is given.
    :returns: ``None`` if what it asks for cannot exist.
    :raises nova_snap.exception.Invalid: for a value that cannot be used, or a filter that is
        Nova's and is not supported here: to ignore it would show more than was asked for.
    :raises nova_snap.exception.Forbidden: for what only administrators may ask.
    """
    query = request.query()
    check_query(query, schema.list_query(request.microversion))
    context = request.context
    options = _allowed_options(query, context, request.microversion, enforcer)
    all_tenants = _boolean(options, "all_tenants", default=True)
    if all_tenants:
        rule = rules.DETAIL_ALL_TENANTS if detailed else rules.INDEX_ALL_TENANTS
        enforcer.authorize(context, rule)
    filters = _filters(query, options, context, request.microversion, all_tenants)
    if filters is None:
        return None
    limit = int(_last(query, "limit") or max_limit)
    return Search(
        filters=filters,
        limit=min(limit, max_limit),
        marker=_last(query, "marker"),
        sort=_sort(query, context),
    )


def _last(query: Query, key: str) -> str | None:
    """A parameter that is given more than once counts the last time."""
    return query[key][-1] if key in query else None


def _allowed_options(
    query: Query, context: RequestContext, version: Microversion, enforcer: policies.Enforcer
) -> Query:
    """The filters that the context may use; the others are left out, as Nova does."""
    known = schema.list_query(version)["properties"]
    names = [name for name in query if name in known and name not in _PAGING]
    if not enforcer.allows(context, rules.ALLOW_ALL_FILTERS):
        names = [name for name in names if version.at_least(_FOR_ALL.get(name, 1000))]
    for name in names:
        if name in schema.JOINED:
            raise errors.ValidationError(reason=f"Invalid filter field: {name}.")
        if name not in _SUPPORTED:
            raise errors.ValidationError(reason=f"Filtering servers by {name} is not supported.")
    return {name: query[name] for name in names}


def _filters(
    query: Query,
    options: Query,
    context: RequestContext,
    version: Microversion,
    all_tenants: bool,
) -> InstanceFilters | None:
    states, task_states = _states(query, options, context, version)
    if states is not None and not states:
        return None
    changes_since = _time(options, "changes-since")
    deleted = states == (vm_states.DELETED,) or _boolean(options, "deleted", strict=False)
    if changes_since is not None and "deleted" in options and not deleted:
        # By itself, changes-since shows what was deleted since then, too.
        states = tuple(state for state in states or vm_states.ALL if state != vm_states.DELETED)
    own_project = context.project_id or ""
    return InstanceFilters(
        project_id=(
            _last(options, "project_id") or _last(options, "tenant_id")
            if all_tenants
            else own_project
        ),
        user_id=_last(options, "user_id"),
        host=_last(options, "host"),
        uuid=_last(options, "uuid"),
        name=_last(options, "name") or _last(options, "display_name"),
        image_ref=_last(options, "image") or _last(options, "image_ref"),
        vm_states=states,
        task_states=task_states,
        flavorid=_last(options, "flavor"),
        changes_since=changes_since,
        deleted=deleted,
    )


def _states(
    query: Query, options: Query, context: RequestContext, version: Microversion
) -> tuple[tuple[str, ...] | None, Sequence[str] | None]:
    """The vm_states and task_states to look for; ``None`` if they do not matter, and no vm_state
    at all if nothing can be in what was asked for."""
    states = tuple(options["vm_state"]) if "vm_state" in options else None
    task_states: Sequence[str] | None = options.get("task_state")
    if "status" in query:
        wanted = {status.upper() for status in query["status"]}
        if version.at_least(38) and not wanted & server_status.ALL:
            given = text.shorten(", ".join(query["status"]))
            raise errors.ValidationError(reason=f"Invalid status value: {given}")
        states, busy = server_status.states_of(wanted)
        task_states = task_states if busy is None else busy
    if states == (vm_states.DELETED,) and not context.is_admin:
        raise errors.AdminOnly(what="list deleted instances")
    return states, task_states


def _boolean(options: Query, name: str, *, default: bool = False, strict: bool = True) -> bool:
    """A parameter that is given says yes unless its value says no.

    :param default: what the empty value means.
    :param strict: whether a value that means neither is an error; it is a no otherwise.
    """
    value = _last(options, name)
    if value is None:
        return False
    if not value:
        return default
    try:
        return bool(strutils.bool_from_string(text.shorten(value), strict=strict))
    except ValueError as error:
        raise errors.ValidationError(
            reason=f"Invalid input for query parameters {name}. {error}"
        ) from None


def _time(options: Query, name: str) -> datetime.datetime | None:
    value = _last(options, name)
    if value is None:
        return None
    # The schema has seen to it that this is a time.
    moment: datetime.datetime = timeutils.normalize_time(timeutils.parse_isotime(value))
    return moment


def _sort(query: Query, context: RequestContext) -> tuple[tuple[str, str], ...]:
    keys = [key.strip() for key in query.get("sort_key", [])] or ["created_at"]
    directions = [direction.strip() for direction in query.get("sort_dir", [])] or ["desc"]
    for direction in directions:
        if direction not in ("asc", "desc"):
            raise exception.InvalidFilter(
                name="sort_dir", value=text.shorten(direction), reason="it must be asc or desc"
            )
    if len(directions) > len(keys):
        raise errors.ValidationError(reason="There are more values of sort_dir than of sort_key.")
    directions += [directions[0]] * (len(keys) - len(directions))
    for key in keys:
        if key in _ADMIN_SORT_KEYS and not context.is_admin:
            raise errors.AdminOnly(what=f"sort servers by {key}")
    pairs = dict(reversed([(key, way) for key, way in zip(keys, directions, strict=True)]))
    found = tuple((key, pairs[key]) for key in dict.fromkeys(keys) if key in SORTABLE)
    return found or (("created_at", "desc"),)
