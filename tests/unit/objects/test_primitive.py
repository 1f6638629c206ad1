# SPDX-License-Identifier: Apache-2.0
"""Instances and images in messages."""

from typing import Any

import pytest

from nova_snap import exception
from nova_snap.objects import primitive

UUID = "3f1c9a52-6a0e-4c58-9d40-0a5cbbd1b3b1"


@pytest.mark.parametrize(
    "instance",
    [
        pytest.param(UUID, id="uuid"),
        pytest.param({"uuid": UUID, "host": "x"}, id="dictionary"),
        pytest.param(
            {
                "nova_object.name": "Instance",
                "nova_object.namespace": "nova",
                "nova_object.version": "2.8",
                "nova_object.data": {"id": 7, "uuid": UUID, "task_state": None},
                "nova_object.changes": ["task_state"],
            },
            id="nova",
        ),
        pytest.param(
            {"versioned_object.name": "Instance", "versioned_object.data": {"uuid": UUID}},
            id="versioned-object",
        ),
    ],
)
def test_the_uuid_is_found(instance: Any) -> None:
    assert primitive.instance_uuid(instance) == UUID


@pytest.mark.parametrize(
    ("instance", "said"),
    [
        pytest.param("web", "'web' is not a uuid", id="name"),
        pytest.param(17, "it is a int", id="number"),
        pytest.param(None, "it is a NoneType", id="nothing"),
        pytest.param({}, "None is not a uuid", id="empty"),
        pytest.param({"uuid": [UUID]}, "is not a uuid", id="list"),
        pytest.param({"nova_object.name": "Flavor"}, "object 'Flavor'", id="other-object"),
        pytest.param({"nova_object.name": "Instance"}, "no nova_object.data", id="no-data"),
        pytest.param(
            {"nova_object.name": "Instance", "nova_object.data": {}}, "None is", id="no-uuid"
        ),
    ],
)
def test_anything_else_is_refused(instance: Any, said: str) -> None:
    with pytest.raises(exception.InvalidInstancePrimitive, match=said):
        primitive.instance_uuid(instance)


def test_the_id_of_an_image() -> None:
    assert primitive.image_id(UUID) == UUID


@pytest.mark.parametrize(
    "image", [None, 7, [UUID], {}, "", "../v2/images", f"{UUID}/file", f"{{{UUID}}}", UUID + "\n"]
)
def test_what_is_no_id_of_an_image_gets_into_no_url(image: Any) -> None:
    with pytest.raises(exception.InvalidImageId, match="no uuid"):
        primitive.image_id(image)
