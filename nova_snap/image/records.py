# SPDX-License-Identifier: Apache-2.0
"""What everyone who reads a record of an image relies on (Image API v2, schema "image").

A record comes from another service: it is looked at once, where it comes in.
"""

from collections.abc import Mapping
from typing import Any, Final

_TEXTS: Final = (
    *("name", "owner", "visibility", "disk_format", "container_format"),
    *("checksum", "os_hash_algo", "os_hash_value", "created_at", "updated_at"),
)
_NUMBERS: Final = ("size", "virtual_size", "min_disk", "min_ram")
_MAX_NUMBER: Final = 2**63 - 1


def problem(record: object) -> str | None:
    """What is wrong with a record; ``None`` if nothing is.

    Attributes may be missing, but for ``id`` and ``status``.
    """
    if not isinstance(record, Mapping):
        return f"it is a {type(record).__name__}"
    for name in ("id", "status"):
        if not isinstance(record.get(name), str):
            return _said(record, name)
    for name in _TEXTS:
        if not isinstance(record.get(name), str | None):
            return _said(record, name)
    for name in _NUMBERS:
        value: Any = record.get(name)
        if value is not None and (type(value) is not int or not 0 <= value <= _MAX_NUMBER):
            return _said(record, name)
    return None


def _said(record: Mapping[str, Any], name: str) -> str:
    return f"{name} is {record.get(name)!r:.60}"
