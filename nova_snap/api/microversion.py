# SPDX-License-Identifier: Apache-2.0
"""Which version of the API a request speaks.

A client names it in ``OpenStack-API-Version: compute 2.45`` or, as old ones do, in
``X-OpenStack-Nova-API-Version: 2.45``; without either it gets the oldest.
"""

import re
from collections.abc import MutableMapping
from typing import Final, NamedTuple

import microversion_parse

from nova_snap import exception
from nova_snap.api import text

HEADER: Final = "OpenStack-API-Version"
LEGACY_HEADER: Final = "X-OpenStack-Nova-API-Version"
SERVICE_TYPE: Final = "compute"

# More digits are no version that anyone means, and int() refuses very many.
_FORMAT: Final = re.compile(r"([1-9][0-9]{0,5})\.([1-9][0-9]{0,5}|0)\Z")


class Microversion(NamedTuple):
    """A version, comparable as a tuple."""

    major: int
    minor: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"

    def at_least(self, minor: int) -> bool:
        """Whether it is 2.``minor`` or later."""
        return self >= (2, minor)


MIN: Final = Microversion(2, 1)
MAX: Final = Microversion(2, 96)


class InvalidVersion(exception.Invalid):
    """:ivar version: what the header said."""

    version: str
    msg = (
        "API Version String {self.version} is of invalid format. Must be of format "
        "MajorNum.MinorNum, or latest."
    )


class VersionNotAcceptable(exception.NovaSnapError):
    """:ivar version: a version that is well formed and that this service does not speak."""

    version: Microversion
    msg = (
        "Version {self.version} is not supported by the API. Minimum is "
        f"{MIN} and maximum is {MAX}."
    )


def requested(headers: MutableMapping[str, str]) -> Microversion:
    """The version that the headers ask for.

    :raises InvalidVersion: if that is no version.
    :raises VersionNotAcceptable: if it is outside of what the service speaks.
    """
    found = microversion_parse.get_version(
        headers, service_type=SERVICE_TYPE, legacy_headers=[LEGACY_HEADER]
    )
    if found is None:
        return MIN
    if found == "latest":
        return MAX
    match = _FORMAT.match(found)
    if match is None:
        raise InvalidVersion(version=text.shorten(found))
    version = Microversion(int(match.group(1)), int(match.group(2)))
    if not MIN <= version <= MAX:
        raise VersionNotAcceptable(version=version)
    return version


def response_headers(version: Microversion) -> list[tuple[str, str]]:
    """The headers that tell the client which version the answer is of."""
    return [
        (HEADER, f"{SERVICE_TYPE} {version}"),
        (LEGACY_HEADER, str(version)),
        *vary_headers(),
    ]


def vary_headers() -> list[tuple[str, str]]:
    """The headers that tell a cache that the answer depends on the version."""
    return [("Vary", HEADER), ("Vary", LEGACY_HEADER)]
