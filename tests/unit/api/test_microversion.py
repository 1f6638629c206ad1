# SPDX-License-Identifier: Apache-2.0
"""Reading versions from headers."""

import pytest

from nova_snap.api import microversion
from nova_snap.api.microversion import Microversion

HEADER = "OpenStack-API-Version"
LEGACY = "X-OpenStack-Nova-API-Version"


@pytest.mark.parametrize(
    ("headers", "version"),
    [
        ({}, (2, 1)),
        ({HEADER: "compute 2.1"}, (2, 1)),
        ({HEADER: "compute 2.96"}, (2, 96)),
        ({HEADER: "compute latest"}, (2, 96)),
        ({HEADER: "COMPUTE 2.50"}, (2, 50)),
        ({HEADER: "volume 3.1,compute 2.9"}, (2, 9)),
        ({HEADER: "volume 3.1"}, (2, 1)),
        ({HEADER: "compute"}, (2, 1)),
        ({LEGACY: "2.9"}, (2, 9)),
        ({LEGACY: "latest"}, (2, 96)),
        ({HEADER: "compute 2.10", LEGACY: "2.9"}, (2, 10)),
        ({HEADER: "volume 3.1", LEGACY: "2.9"}, (2, 9)),
    ],
)
def test_a_version_that_is_spoken(headers: dict[str, str], version: tuple[int, int]) -> None:
    assert microversion.requested(headers) == version


@pytest.mark.parametrize("given", ["2", "2.", ".1", "a.b", "2.1 ", "2.1\n", "-2.1", "02.1", "2.01"])
def test_what_is_no_version(given: str) -> None:
    # The header's own value has no white space around it: what is tested is the format.
    if given.strip() != given:
        assert microversion.requested({LEGACY: given}) == (2, 1)
        return
    with pytest.raises(microversion.InvalidVersion, match=r"MajorNum\.MinorNum"):
        microversion.requested({LEGACY: given})


@pytest.mark.parametrize("given", ["2.0", "2.97", "2.999999", "1.1", "3.0", "10.1"])
def test_a_version_that_is_not_spoken(given: str) -> None:
    with pytest.raises(microversion.VersionNotAcceptable, match=f"Version {given} is not") as error:
        microversion.requested({LEGACY: given})
    assert str(error.value.version) == given


def test_versions_are_numbers_and_not_text() -> None:
    assert Microversion(2, 9) < Microversion(2, 10)
    assert Microversion(2, 10).at_least(9)
    assert not Microversion(2, 9).at_least(10)
    assert str(Microversion(2, 10)) == "2.10"
