# SPDX-License-Identifier: Apache-2.0
"""Saying back to a client what it sent, without sending all of it back."""

from typing import Final

LIMIT: Final = 120


def shorten(value: object, limit: int = LIMIT) -> str:
    """``value`` as text of at most ``limit`` characters, and "..." if that is not all of it."""
    whole = str(value)
    return whole if len(whole) <= limit else whole[:limit] + "..."
