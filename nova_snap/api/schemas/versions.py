# SPDX-License-Identifier: Apache-2.0
"""What the version documents look like."""

from typing import Any, Final

from nova_snap.api.schemas.types import LINKS, STRING, TIME, array_of, closed

_COMMON: Final[dict[str, Any]] = {
    "id": {"const": "v2.1"},
    "status": {"const": "CURRENT"},
    "version": {"type": "string", "pattern": r"^2\.[0-9]+$"},
    "min_version": {"type": "string", "pattern": r"^2\.[0-9]+$"},
    "updated": TIME,
}

INDEX_RESPONSE: Final = closed(
    {"versions": array_of(closed({**_COMMON, "links": LINKS}), minItems=1)}
)

_DESCRIBED_LINKS: Final = array_of(
    closed(
        {
            "rel": {"enum": ["self", "describedby"]},
            "href": {"type": "string", "format": "uri"},
            "type": STRING,
        },
        required=["rel", "href"],
    )
)

SHOW_RESPONSE: Final = closed(
    {
        "version": closed(
            {
                **_COMMON,
                "links": _DESCRIBED_LINKS,
                "media-types": array_of(closed({"base": STRING, "type": STRING})),
            }
        )
    }
)
