# SPDX-License-Identifier: Apache-2.0
"""Records of images, as the image service must not answer with them."""

from typing import Any

import pytest

from nova_snap.image import records

RECORD: dict[str, Any] = {
    "id": "11111111-1111-1111-1111-111111111111",
    "name": None,
    "status": "active",
    "size": 2**40,
    "min_ram": 0,
    "created_at": "2026-01-01T00:00:00Z",
    "tags": [],
    "os_distro": "debian",
}


def test_a_record() -> None:
    assert records.problem(RECORD) is None
    assert records.problem({"id": "i", "status": "queued"}) is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("id", None),
        ("status", ["active"]),
        ("name", {}),
        ("disk_format", 7),
        ("created_at", 1.5),
        ("size", "7"),
        ("size", -1),
        ("size", True),
        ("size", 2**63),
        ("min_disk", 0.5),
        ("min_ram", []),
    ],
)
def test_a_value_of_another_kind(name: str, value: object) -> None:
    assert records.problem({**RECORD, name: value}) == f"{name} is {value!r}"


@pytest.mark.parametrize("record", [None, [], "x", {}, {"id": "i"}])
def test_no_record(record: object) -> None:
    assert records.problem(record) is not None
