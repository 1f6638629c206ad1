# SPDX-License-Identifier: Apache-2.0
"""Who may see what the compute hosts have. Names and defaults are Nova's."""

from typing import Final

from nova_snap.api.policies import base

_PREFIX: Final = "os_compute_api:os-hypervisors:"

LIST: Final = _PREFIX + "list"
LIST_DETAIL: Final = _PREFIX + "list-detail"
STATISTICS: Final = _PREFIX + "statistics"
SHOW: Final = _PREFIX + "show"
UPTIME: Final = _PREFIX + "uptime"
SEARCH: Final = _PREFIX + "search"
SERVERS: Final = _PREFIX + "servers"

_ALL = "/os-hypervisors"
_ONE = "/os-hypervisors/{hypervisor_id}"
_PATTERN = "/os-hypervisors/{hypervisor_hostname_pattern}"

RULES = [
    base.rule(LIST, base.ADMIN, "List the hypervisors.", ("GET", _ALL)),
    base.rule(
        LIST_DETAIL, base.ADMIN, "List the hypervisors with details.", ("GET", f"{_ALL}/detail")
    ),
    base.rule(
        STATISTICS,
        base.ADMIN,
        "See what all the hypervisors have together (up to microversion 2.87).",
        ("GET", f"{_ALL}/statistics"),
    ),
    base.rule(SHOW, base.ADMIN, "Show a hypervisor.", ("GET", _ONE)),
    base.rule(
        UPTIME,
        base.ADMIN,
        "See since when a host is up (up to microversion 2.87).",
        ("GET", f"{_ONE}/uptime"),
    ),
    base.rule(
        SEARCH,
        base.ADMIN,
        "Find hypervisors by a part of the host's name (up to microversion 2.52).",
        ("GET", f"{_PATTERN}/search"),
    ),
    base.rule(
        SERVERS,
        base.ADMIN,
        "See which servers are on hypervisors (up to microversion 2.52).",
        ("GET", f"{_PATTERN}/servers"),
    ),
]
