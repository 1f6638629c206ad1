# SPDX-License-Identifier: Apache-2.0
"""Damage: of bytes, and of JSON that stays JSON."""

import copy
import json
import random
from typing import Any

_SIZES = (1, 2, 4, 8)
_NUMBERS = (0, 1, 2, 7, 8, 9, 127, 128, 255, 256, 511, 512, 4095, 4096, 65535, 65536)
_EDGES = (2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**63 - 1, 2**63, 2**64 - 1, 2**64 - 512)
_MOST = 1 << 20


def of_bytes(data: bytes, other: bytes, dice: random.Random) -> bytes:
    """One to four changes, mostly small ones."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 2, 3, 4))):
        _change(changed, other, dice)
    return bytes(changed[:_MOST])


def _change(data: bytearray, other: bytes, dice: random.Random) -> None:
    at = dice.randrange(len(data) + 1)
    # The heads of formats are where it matters.
    if dice.random() < 0.3:
        at = min(at, dice.randrange(256))
    length = dice.choice((1, 1, 2, 4, 8, 16, 40, 200))
    kind = dice.randrange(9)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << dice.randrange(8)
    elif kind == 1 and at < len(data):
        data[at] = dice.randrange(256)
    elif kind == 2:
        del data[at : at + length]
    elif kind == 3:
        data[at:at] = data[at : at + length]
    elif kind == 4:
        data[at:at] = dice.randbytes(length)
    elif kind == 5:
        size = dice.choice(_SIZES)
        number = dice.choice(_NUMBERS + _EDGES) % (1 << 8 * size)
        data[at : at + size] = number.to_bytes(size, dice.choice(("big", "big", "little")))
    elif kind == 6 and other:
        start = dice.randrange(len(other))
        data[at : at + dice.choice((0, length))] = other[start : start + length]
    elif kind == 7:
        del data[at:]
    else:
        start = dice.randrange(len(data) + 1)
        data[at : at + length] = data[start : start + length]


# -- JSON ----------------------------------------------------------------------------------------

# Written as they are: what json.dumps would not write, or not write so.
_RAW = {
    "@raw-deep@": "[" * 20_000 + "]" * 20_000,
    "@raw-deep-object@": '{"a":' * 900 + "1" + "}" * 900,
    "@raw-digits@": "9" * 5_000,
    "@raw-float@": "1e999999",
    "@raw-nan@": "NaN",
    "@raw-surrogate@": '"\\ud800x"',
    "@raw-nul@": '"a\\u0000b"',
    "@raw-twice@": '{"name": 1, "name": "b"}',
}

# Of each, in one text.
_MOST_RAW = 1000

TEXTS = (
    *("", " ", "a", "0", "-1", "1" * 30, "null", "\0", "a\0b", "\r\nX-Evil: 1", "\u202e", "\ufeff"),
    *("\N{GRINNING FACE}", "e\u0301", "\u3000", "x" * 255, "x" * 256, "x" * 70_000, "é" * 255),
    *("../../etc/passwd", "/etc/passwd", "file:///etc/passwd", "%s%s%n", "{0.__class__}"),
    *(
        "%(uuid)s",
        "${jndi}",
        "' OR 1=1 --",
        "<script>",
        "(a+)+$",
        "(a|a)*b",
        "a*a*a*a*a*a*b",
        "[",
        "(?P<a>x)(?P<a>y)",
        "*",
    ),
    *("2026-01-01T00:00:00Z", "9999-12-31T23:59:59-23:59", "0001-01-01", "in:a,b", "gte:x"),
    *("00000000-0000-0000-0000-000000000001", "{00000000-0000-0000-0000-000000000001}"),
    *("urn:uuid:00000000-0000-0000-0000-000000000001", "00000000000000000000000000000001"),
    *(
        "active",
        "queued",
        "deleted",
        "true",
        "NaN",
        "Infinity",
        "\uff11\uff12",
        "\u00b2",
        "1_000",
        "0x10",
    ),
)
_SCALARS: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30),
    *(0.0, 0.5, -0.0, 1e308, [], {}, [[]], {"": ""}, [None], *_RAW),
)


def evil_value(dice: random.Random) -> Any:
    """A value that few expect; it may stand for raw text, see :func:`to_text`."""
    if dice.random() < 0.5:
        return dice.choice(TEXTS)
    return copy.deepcopy(dice.choice(_SCALARS))


def of_json(value: Any, other: Any, dice: random.Random) -> Any:
    """A copy with one to three changes of values, keys and structure."""
    boxed = [copy.deepcopy(value)]
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        slots = list(_slots(boxed))
        holder, key = dice.choice(slots)
        _change_json(holder, key, other, dice)
    return boxed[0] if boxed else None


def _slots(value: Any) -> list[tuple[Any, Any]]:
    found: list[tuple[Any, Any]] = []
    left = [value]
    while left:
        holder = left.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        for key in keys:
            found.append((holder, key))
            if isinstance(holder[key], dict | list):
                left.append(holder[key])
    return found or [([None], 0)]


def _change_json(holder: Any, key: Any, other: Any, dice: random.Random) -> None:
    kind = dice.randrange(10)
    if kind < 5:
        holder[key] = evil_value(dice)
    elif kind == 5 and isinstance(holder, dict):
        del holder[key]
    elif kind == 6 and isinstance(holder, dict):
        holder[str(evil_value(dice))] = holder.pop(key)
    elif kind == 7 and isinstance(holder, dict):
        holder[dice.choice((str(evil_value(dice)), f"{key} "))] = evil_value(dice)
    elif kind == 8:
        donor, place = dice.choice(_slots([other]))
        holder[key] = copy.deepcopy(donor[place])
    elif isinstance(holder[key], str) and holder[key]:
        holder[key] = _text(holder[key], dice)
    else:
        holder[key] = [holder[key]] * dice.choice((1, 2, 300))


def _text(value: str, dice: random.Random) -> str:
    at = dice.randrange(len(value) + 1)
    return value[:at] + dice.choice((*TEXTS, value)) + value[at + dice.randrange(3) :]


def to_text(value: Any) -> str:
    """JSON, with the raw texts in it that no JSON writer writes."""
    text = json.dumps(value)
    for mark, raw in _RAW.items():
        # Long ones, in copies of copies, would be more than there is memory.
        text = text.replace(json.dumps(mark), raw, _MOST_RAW)
    return text
