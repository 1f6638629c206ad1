# SPDX-License-Identifier: Apache-2.0
"""Who may make, show, change and snapshot servers. Names and defaults are Nova's."""

from typing import Final

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

CREATE: Final = _PREFIX + "create"
CREATE_FORCED_HOST: Final = _PREFIX + "create:forced_host"
CREATE_ZERO_DISK: Final = _PREFIX + "create:zero_disk_flavor"
REQUESTED_DESTINATION: Final = "os_compute_api:compute:servers:create:requested_destination"
UPDATE: Final = _PREFIX + "update"
DELETE: Final = _PREFIX + "delete"

_LIST = ("GET", "/servers")
_DETAIL = ("GET", "/servers/detail")
_SHOW = ("GET", "/servers/{server_id}")
_CREATE = ("POST", "/servers")
_CREATE_IMAGE = ("POST", "/servers/{server_id}/action (createImage)")

RULES = [
    base.rule(INDEX, base.PROJECT_READER_OR_ADMIN, "List servers.", _LIST),
    base.rule(DETAIL, base.PROJECT_READER_OR_ADMIN, "List servers with details.", _DETAIL),
    base.rule(INDEX_ALL_TENANTS, base.ADMIN, "List the servers of every project.", _LIST),
    base.rule(
        DETAIL_ALL_TENANTS,
        base.ADMIN,
        "List the servers of every project with details.",
        _DETAIL,
    ),
    base.rule(
        ALLOW_ALL_FILTERS,
        base.ADMIN,
        "Use every filter when listing servers. Without it, the filters that tell of the "
        "infrastructure, such as host, have no effect.",
        _LIST,
        _DETAIL,
    ),
    base.rule(SHOW, base.PROJECT_READER_OR_ADMIN, "Show a server.", _SHOW),
    base.rule(
        SHOW_EXTRA_SPECS,
        base.PROJECT_READER_OR_ADMIN,
        "See the extra specs of a server's flavor (microversion 2.47 and later).",
        _SHOW,
        _DETAIL,
    ),
    base.rule(
        SHOW_HOST_STATUS,
        base.ADMIN,
        "See the status of a server's compute host (microversion 2.16 and later).",
        _SHOW,
        _DETAIL,
    ),
    base.rule(
        SHOW_HOST_STATUS_UNKNOWN,
        base.ADMIN,
        "See the status of a server's compute host when it is UNKNOWN, and not otherwise. Asked "
        f"only of those whom {SHOW_HOST_STATUS} refuses.",
        _SHOW,
        _DETAIL,
    ),
    base.rule(
        CREATE_IMAGE,
        base.PROJECT_MEMBER_OR_ADMIN,
        "Make an image from a server.",
        _CREATE_IMAGE,
    ),
    base.rule(
        CREATE_IMAGE_VOLUME_BACKED,
        base.PROJECT_MEMBER_OR_ADMIN,
        "Make an image from a server that boots from a volume.",
        _CREATE_IMAGE,
    ),
    base.rule(CREATE, base.PROJECT_MEMBER_OR_ADMIN, "Make a server.", _CREATE),
    base.rule(
        CREATE_FORCED_HOST,
        base.ADMIN,
        "Say in availability_zone which host a server is made on.",
        _CREATE,
    ),
    base.rule(
        CREATE_ZERO_DISK,
        base.ADMIN,
        "Make a server of a flavor without a disk size: its disk is as large as the image says.",
        _CREATE,
    ),
    base.rule(
        REQUESTED_DESTINATION,
        base.ADMIN,
        "Say in host or hypervisor_hostname where a server is made (microversion 2.74 and later).",
        _CREATE,
    ),
    base.rule(
        UPDATE,
        base.PROJECT_MEMBER_OR_ADMIN,
        "Change a server's name or description.",
        ("PUT", "/servers/{server_id}"),
    ),
    base.rule(
        DELETE,
        base.PROJECT_MEMBER_OR_ADMIN,
        "Delete a server.",
        ("DELETE", "/servers/{server_id}"),
    ),
]
