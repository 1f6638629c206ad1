# SPDX-License-Identifier: Apache-2.0
"""What clients send, in a form that can be kept, or said back to them."""

import ipaddress
from typing import Final

LIMIT: Final = 120


def shorten(value: object, limit: int = LIMIT) -> str:
    """``value`` as text of at most ``limit`` characters, and "..." if that is not all of it."""
    whole = str(value)
    return whole if len(whole) <= limit else whole[:limit] + "..."


def canonical_address(value: str) -> str:
    """An IP address in the form in which it is kept and shown: the shortest there is."""
    return str(ipaddress.ip_address(value))
