# SPDX-License-Identifier: Apache-2.0
"""Who may see what was done to a server. Names and defaults are Nova's."""

from typing import Final

from nova_snap.api.policies import base

_PREFIX: Final = "os_compute_api:os-instance-actions:"

LIST: Final = _PREFIX + "list"
SHOW: Final = _PREFIX + "show"
EVENTS: Final = _PREFIX + "events"
EVENTS_DETAILS: Final = _PREFIX + "events:details"

_SHOW_ROUTE = ("GET", "/servers/{server_id}/os-instance-actions/{request_id}")

RULES = [
    base.rule(
        LIST,
        base.PROJECT_READER_OR_ADMIN,
        "List what was done to a server.",
        ("GET", "/servers/{server_id}/os-instance-actions"),
    ),
    base.rule(
        SHOW,
        base.PROJECT_READER_OR_ADMIN,
        "Show one thing that was done to a server.",
        _SHOW_ROUTE,
    ),
    base.rule(
        EVENTS,
        base.ADMIN,
        "See the steps of an action with the traceback of those that failed, and with their host "
        "(microversion 2.62 and later). From 2.51 on everyone whom the rule for showing an action "
        "lets sees the steps without these.",
        _SHOW_ROUTE,
    ),
    base.rule(
        EVENTS_DETAILS,
        base.ADMIN,
        "See the details of the steps of an action (microversion 2.84 and later): how far a "
        "snapshot is, how it was taken, or why it failed. They may tell of the infrastructure.",
        _SHOW_ROUTE,
    ),
]
