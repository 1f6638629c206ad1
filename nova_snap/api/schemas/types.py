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
# Nova shows some times without saying that they are UTC: that is no "date-time".
BARE_TIME: Final[Schema] = {
    "type": "string",
    "pattern": r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}$",
}
BARE_TIME_OR_NULL: Final[Schema] = {**BARE_TIME, "type": ["string", "null"]}
STRING: Final[Schema] = {"type": "string"}
STRING_OR_NULL: Final[Schema] = {"type": ["string", "null"]}

BOOLEAN: Final[Schema] = {
    "enum": [
        *(True, "True", "TRUE", "true", "1", "ON", "On", "on", "YES", "Yes", "yes", "y", "t"),
        *(False, "False", "FALSE", "false", "0", "OFF", "Off", "off", "NO", "No", "no", "n", "f"),
    ]
}
"""What Nova takes for yes and no; :func:`oslo_utils.strutils.bool_from_string` reads it."""

MAX_INT: Final = 0x7FFFFFFF
"""The largest number that a column of the database holds."""

# Numbers may come as strings, of which "minimum" says nothing: the format does.
POSITIVE_NUMBER: Final[Schema] = {
    "type": ["integer", "string"],
    "minimum": 1,
    "maximum": MAX_INT,
    "format": "positive-number",
}
NUMBER: Final[Schema] = {**POSITIVE_NUMBER, "minimum": 0, "format": "number"}

PRINTABLE_OR_NULL: Final[Schema] = {
    "type": ["string", "null"],
    "maxLength": 255,
    "format": "printable",
}

ADDRESS_V4: Final[Schema] = {"type": "string", "format": "ipv4"}
ADDRESS_V6: Final[Schema] = {"type": "string", "format": "ipv6"}
ADDRESS: Final[Schema] = {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}

TAG: Final[Schema] = {
    "type": "string",
    "minLength": 1,
    "maxLength": 60,
    "pattern": r"^[^,/]*$(?!\n)",
}

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
    # How many there may be is looked at first, and so it costs nothing to send too many.
    return {"type": "array", **limits, "items": items}


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
# The length comes before the format: what is too long is not read.
QUERY_REGEX: Final = array_of({"type": "string", "maxLength": 255, "format": "regex"}, maxItems=5)
QUERY_TIME: Final = array_of(TIME)
QUERY_NUMBER: Final = array_of({"type": "string", "pattern": r"^[0-9]{1,10}$(?!\n)"})
