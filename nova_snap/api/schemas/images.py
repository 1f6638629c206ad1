# SPDX-License-Identifier: Apache-2.0
"""What images look like below 2.36, in answers and in queries."""

from typing import Any, Final

from nova_snap.api.schemas.types import (
    LINKS,
    NEXT_LINK,
    QUERY_NUMBER,
    QUERY_STRING,
    QUERY_TIME,
    STRING,
    STRING_OR_NULL,
    TIME,
    UUID,
    Schema,
    array_of,
    closed,
)

LIST_QUERY: Final[Schema] = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("name", "status", "server", "type", "marker"), QUERY_STRING),
        **dict.fromkeys(("limit", "minRam", "minDisk"), QUERY_NUMBER),
        "changes-since": QUERY_TIME,
    },
    "patternProperties": {"^property-": QUERY_STRING},
    "additionalProperties": True,
}

_IMAGE_LINKS: Final = array_of(
    closed(
        {
            "rel": {"enum": ["self", "bookmark", "alternate"]},
            "href": {"type": "string", "format": "uri"},
            "type": STRING,
        },
        required=["rel", "href"],
    )
)
_METADATA: Final[Schema] = {"type": "object", "additionalProperties": STRING}
_BASIC: Final[dict[str, Any]] = {"id": UUID, "name": STRING_OR_NULL, "links": _IMAGE_LINKS}
_ALWAYS: Final[dict[str, Any]] = {
    **_BASIC,
    "created": TIME,
    "updated": TIME,
    "status": {"enum": ["ACTIVE", "SAVING", "DELETED", "ERROR", "UNKNOWN"]},
    "progress": {"enum": [0, 25, 50, 100]},
    "minDisk": {"type": "integer", "minimum": 0},
    "minRam": {"type": "integer", "minimum": 0},
    "metadata": _METADATA,
    "OS-EXT-IMG-SIZE:size": {"type": "integer", "minimum": 0},
}
_IMAGE: Final = closed(
    {
        **_ALWAYS,
        "server": closed({"id": UUID, "links": LINKS}),
        "OS-DCF:diskConfig": {"enum": ["AUTO", "MANUAL"]},
    },
    required=list(_ALWAYS),
)


def _list(item: Schema) -> Schema:
    return closed({"images": array_of(item), "images_links": NEXT_LINK}, required=["images"])


INDEX: Final = _list(closed(_BASIC))
DETAIL: Final = _list(_IMAGE)
SHOW: Final = closed({"image": _IMAGE})
METADATA: Final = closed({"metadata": _METADATA})
METADATA_ITEM: Final = closed({"meta": _METADATA})
