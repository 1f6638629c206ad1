# SPDX-License-Identifier: Apache-2.0
"""Who may list, show and snapshot servers. Names and defaults are Nova's."""

from typing import Any, Final

from oslo_policy import policy

from nova_snap.api.policies import base

_PREFIX: Final = "os_compute_api:servers:"

INDEX: Final = _PREFIX + "index"
DETAIL: Final = _PREFIX + "detail"
INDEX_ALL_TENANTS: Final = _PREFIX + "index:get_all_tenants"
DETAIL_ALL_TENANTS: Final = _PREFIX + "detail:get_all_tenants"
ALLOW_ALL_FILTERS: Final = _PREFIX + "allow_all_filters"
SHOW: Final = _PREFIX + "show"
SHOW_EXTRA_SPECS: Final = _PREFIX + "show:flavor-extra-specs"
SHOW_HOST_STATUS: Final = _PREFIX + "show:host_status"
SHOW_HOST_STATUS_UNKNOWN: Final = _PREFIX + "show:host_status:unknown-only"
CREATE_IMAGE: Final = _PREFIX + "create_image"
CREATE_IMAGE_VOLUME_BACKED: Final = _PREFIX + "create_image:allow_volume_backed"

_LIST = {"method": "GET", "path": "/servers"}
_DETAIL = {"method": "GET", "path": "/servers/detail"}
_SHOW = {"method": "GET", "path": "/servers/{server_id}"}
_CREATE_IMAGE = {"method": "POST", "path": "/servers/{server_id}/action (createImage)"}


def _rule(name: str, check: str, description: str, *operations: Any) -> policy.RuleDefault:
    return policy.DocumentedRuleDefault(
        name=name,
        check_str=check,
        description=description,
        operations=list(operations),
        scope_types=["project"],
    )


RULES = [
    _rule(INDEX, base.PROJECT_READER_OR_ADMIN, "List servers.", _LIST),
    _rule(DETAIL, base.PROJECT_READER_OR_ADMIN, "List servers with details.", _DETAIL),
    _rule(INDEX_ALL_TENANTS, base.ADMIN, "List the servers of every project.", _LIST),
    _rule(
        DETAIL_ALL_TENANTS,
        base.ADMIN,
        "List the servers of every project with details.",
        _DETAIL,
    ),
    _rule(
        ALLOW_ALL_FILTERS,
        base.ADMIN,
        "Use every filter when listing servers. Without it, the filters that tell of the "
        "infrastructure, such as host, have no effect.",
        _LIST,
        _DETAIL,
    ),
    _rule(SHOW, base.PROJECT_READER_OR_ADMIN, "Show a server.", _SHOW),
    _rule(
        SHOW_EXTRA_SPECS,
        base.PROJECT_READER_OR_ADMIN,
        "See the extra specs of a server's flavor (microversion 2.47 and later).",
        _SHOW,
        _DETAIL,
    ),
    _rule(
        SHOW_HOST_STATUS,
        base.ADMIN,
        "See the status of a server's compute host (microversion 2.16 and later).",
        _SHOW,
        _DETAIL,
    ),
    _rule(
        SHOW_HOST_STATUS_UNKNOWN,
        base.ADMIN,
        "See the status of a server's compute host when it is UNKNOWN, and not otherwise. Asked "
        f"only of those whom {SHOW_HOST_STATUS} refuses.",
        _SHOW,
        _DETAIL,
    ),
    _rule(
        CREATE_IMAGE,
        base.PROJECT_MEMBER_OR_ADMIN,
        "Make an image from a server.",
        _CREATE_IMAGE,
    ),
    _rule(
        CREATE_IMAGE_VOLUME_BACKED,
        base.PROJECT_MEMBER_OR_ADMIN,
        "Make an image from a server that boots from a volume.",
        _CREATE_IMAGE,
    ),
]
