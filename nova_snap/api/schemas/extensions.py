# SPDX-License-Identifier: Apache-2.0
"""What extensions look like: the same in every version."""

from typing import Final

from nova_snap.api.schemas.types import STRING, TIME, array_of, closed

_EXTENSION: Final = closed(
    {
        "alias": STRING,
        "name": STRING,
        "description": STRING,
        "namespace": {"type": "string", "format": "uri"},
        "updated": TIME,
        "links": {**array_of({}), "maxItems": 0},
    }
)

INDEX: Final = closed({"extensions": array_of(_EXTENSION)})
SHOW: Final = closed({"extension": _EXTENSION})
