# SPDX-License-Identifier: Apache-2.0
"""Checking requests against their schemas, with messages that say what would be right."""

import base64
import binascii
import ipaddress
import re
import unicodedata
from collections.abc import Mapping
from re import _parser  # type: ignore[attr-defined]
from typing import Any, Final
from urllib.parse import urlsplit

import jsonschema
from oslo_utils import uuidutils

from nova_snap.api import errors, text
from nova_snap.api.schemas.types import MAX_INT
from nova_snap.context import is_time

FORMATS: Final = jsonschema.FormatChecker(formats=())
"""Every ``format`` that a schema here may name; each checks strings only."""

_LAST_CHARACTER: Final = 0xFFFE
_MAX_DIGITS: Final = len(str(MAX_INT))
_NAME_HINT: Final = (
    "A name is made of printable characters of Unicode's Basic Multilingual Plane, and it neither "
    "begins nor ends with white space."
)


def _is_printable(character: str) -> bool:
    category = unicodedata.category(character)
    return ord(character) <= _LAST_CHARACTER and (category == "Zs" or category[0] not in "CZ")


def is_name(value: str) -> bool:
    """Whether ``value`` may name a thing: what Nova's v2.1 allows, which MySQL's utf8 can hold."""
    if not is_printable(value):
        return False
    return not value or "Zs" not in (
        unicodedata.category(value[0]),
        unicodedata.category(value[-1]),
    )


def is_printable(value: str) -> bool:
    """Whether every character can be shown, and white space is spaces."""
    return all(_is_printable(character) for character in value)


def _is_regex(value: str) -> bool:
    """Parsed and no more: to compile ``[!-\uffff]`` goes through all of these characters, and no
    other thread runs meanwhile."""
    try:
        _parser.parse(value)
    except (re.error, RecursionError, OverflowError):
        return False
    return bool(value)


def _is_base64(value: str) -> bool:
    try:
        base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return False
    return True


def _is_uri(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return bool(parts.scheme and parts.netloc) and " " not in value


def _is_number(value: str, least: int) -> bool:
    digits = value.isascii() and value.isdigit() and len(value) <= _MAX_DIGITS
    return digits and least <= int(value) <= MAX_INT


def _is_address(
    kind: type[ipaddress.IPv4Address] | type[ipaddress.IPv6Address], value: str
) -> bool:
    try:
        kind(value)
    except ValueError:
        return False
    # A scope (fe80::1%eth0) means something on one host only.
    return "%" not in value


def _register() -> None:
    checks = {
        "name": is_name,
        "printable": is_printable,
        "number": lambda value: _is_number(value, 0),
        "positive-number": lambda value: _is_number(value, 1),
        "regex": _is_regex,
        "date-time": is_time,
        "base64": _is_base64,
        "uri": _is_uri,
        "uuid": uuidutils.is_uuid_like,
        "ipv4": lambda value: _is_address(ipaddress.IPv4Address, value),
        "ipv6": lambda value: _is_address(ipaddress.IPv6Address, value),
    }
    for name, check in checks.items():
        FORMATS.checks(name)(lambda value, check=check: not isinstance(value, str) or check(value))


_register()


def check_body(body: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Refuse a body that the schema does not allow.

    :raises nova_snap.api.errors.ValidationError: with the field, its value and what is wrong.
    """
    error = _first_error(body, schema)
    if error is not None:
        # The innermost name: list indices and the action's own name say little.
        names = [part for part in error.absolute_path if isinstance(part, str)]
        raise errors.ValidationError(reason=_describe(error, "field/attribute", names[-1:]))


def check_query(query: Mapping[str, list[str]], schema: Mapping[str, Any]) -> None:
    """Refuse a query string that the schema does not allow.

    :param query: each key with the list of its values; the schema is of that shape.
    :raises nova_snap.api.errors.ValidationError: with the parameter, its value and what is wrong.
    """
    error = _first_error(query, schema)
    if error is not None:
        names = [str(part) for part in error.absolute_path]
        raise errors.ValidationError(reason=_describe(error, "query parameters", names[:1]))


def _first_error(value: object, schema: Mapping[str, Any]) -> jsonschema.ValidationError | None:
    validator = jsonschema.Draft202012Validator(schema, format_checker=FORMATS)
    return next(validator.iter_errors(value), None)


def _describe(error: jsonschema.ValidationError, where: str, names: list[str]) -> str:
    """The message in Nova's form; nothing that the client sent is in it at full length."""
    whole = repr(error.instance)
    message = text.shorten(error.message.replace(whole, text.shorten(whole)), 3 * text.LIMIT)
    if error.validator in ("maxLength", "minLength"):
        bound = "most" if error.validator == "maxLength" else "least"
        message = f"{message} (at {bound} {error.validator_value} characters)"
    elif error.validator == "maxItems":
        message = f"{message} (at most {error.validator_value} values)"
    elif error.validator == "format" and error.validator_value == "name":
        message = _NAME_HINT
    if not names:
        return message
    return (
        f"Invalid input for {where} {text.shorten(names[0])}. "
        f"Value: {text.shorten(error.instance)}. {message}"
    )
