# SPDX-License-Identifier: Apache-2.0
"""Pieces that several schemas are made of."""

from typing import Any, Final

Schema = dict[str, Any]

NAME: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 255, "format": "name"}

# "$" alone would let a newline at the end through: Python's re ends a line before it.
METADATA_KEY: Final = r"^[a-zA-Z0-9_:. -]{1,255}$(?!\n)"

METADATA: Final[Schema] = {
    "type": "object",
    "patternProperties": {METADATA_KEY: {"type": "string", "maxLength": 255}},
    "additionalProperties": False,
}

UUID: Final[Schema] = {"type": "string", "format": "uuid"}
TIME: Final[Schema] = {"type": "string", "format": "date-time"}
STRING: Final[Schema] = {"type": "string"}
STRING_OR_NULL: Final[Schema] = {"type": ["string", "null"]}

PROJECT_OR_USER: Final[Schema] = {"type": "string", "minLength": 1, "maxLength": 255}


def closed(properties: Schema, required: list[str] | None = None) -> Schema:
    """An object with these properties and no others; all are required unless said otherwise."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties) if required is None else required,
        "additionalProperties": False,
    }


def array_of(items: Schema, **limits: int) -> Schema:
    """A list whose items are all alike."""
    return {"type": "array", "items": items, **limits}


def words(text: str) -> tuple[str, ...]:
    """A long list of names, readable in the code."""
    return tuple(text.split())


def _links(*rels: str) -> Schema:
    return array_of(
        closed({"rel": {"enum": list(rels)}, "href": {"type": "string", "format": "uri"}})
    )


LINKS: Final = _links("self", "bookmark")
NEXT_LINK: Final = {**_links("next"), "minItems": 1, "maxItems": 1}

# In a query string every parameter is a list, because each may be given more than once.
QUERY_STRING: Final = array_of(STRING)
QUERY_REGEX: Final = array_of({"type": "string", "format": "regex", "maxLength": 255})
QUERY_TIME: Final = array_of(TIME)
QUERY_NUMBER: Final = array_of({"type": "string", "pattern": r"^[0-9]{1,10}$(?!\n)"})
