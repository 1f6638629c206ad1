# SPDX-License-Identifier: Apache-2.0
"""What the record of a snapshot's image says."""

from typing import Any

import pytest

from nova_snap import exception
from nova_snap.compute import image_properties
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Flavor, Instance


def instance(root_gb: int = 0, **system_metadata: str) -> Instance:
    return Instance(
        uuid="11111111-2222-3333-4444-555555555555",
        name="instance-1",
        display_name="web",
        project_id="owner",
        user_id="creator",
        flavor=Flavor("m1", 1, 512, root_gb=root_gb),
        system_metadata=dict(system_metadata),
    )


def build(
    made: Instance,
    *,
    project: str = "owner",
    extra: dict[str, str] | None = None,
    non_inheritable: tuple[str, ...] = (),
) -> dict[str, Any]:
    context = RequestContext(user_id="asker", project_id=project, overwrite=False)
    return image_properties.build(context, made, "snap", "snapshot", extra or {}, non_inheritable)


def test_the_least() -> None:
    assert build(instance()) == {
        "name": "snap",
        "min_ram": 0,
        "min_disk": 0,
        "visibility": "private",
        "properties": {
            "instance_uuid": "11111111-2222-3333-4444-555555555555",
            "image_type": "snapshot",
            "user_id": "asker",
        },
    }


def test_properties_of_the_base_image_are_inherited_without_their_prefix() -> None:
    properties = build(instance(image_hw_disk_bus="virtio", image_os_distro="debian"))["properties"]
    assert properties["hw_disk_bus"] == "virtio"
    assert properties["os_distro"] == "debian"


@pytest.mark.parametrize(
    "name",
    ["base_image_ref", "boot_roles", "old_vm_state", "owner_project_name", "owner_user_name"],
)
def test_some_metadata_is_inherited_that_has_no_prefix(name: str) -> None:
    assert build(instance(**{name: "value"}))["properties"][name] == "value"


def test_other_system_metadata_is_not_inherited() -> None:
    assert "secret" not in build(instance(secret="value"))["properties"]


def test_the_image_of_the_instance_is_named() -> None:
    made = instance()
    made.image_ref = "base"
    assert build(made)["properties"]["base_image_ref"] == "base"


@pytest.mark.parametrize(
    "name",
    [
        "bdm_v2",
        "block_device_mapping",
        "cinder_encryption_key_deletion_policy",
        "cinder_encryption_key_id",
        "img_signature",
        "img_signature_certificate_uuid",
        "img_signature_hash_method",
        "os_glance_failed_import",
        "root_device_name",
        "mine",
    ],
)
def test_what_is_true_of_the_base_image_only_is_not_inherited(name: str) -> None:
    record = build(instance(**{f"image_{name}": "value"}), non_inheritable=("mine",))
    assert name not in record["properties"]


@pytest.mark.parametrize(
    ("image", "flavor", "expected"), [("3", 1, 3), ("1", 20, 20), ("0", 0, 0), ("many", 2, 2)]
)
def test_min_disk_is_the_larger_one(image: str, flavor: int, expected: int) -> None:
    record = build(instance(root_gb=flavor, image_min_disk=image))
    assert record["min_disk"] == expected
    assert "min_disk" not in record["properties"]


def test_min_ram_is_an_attribute() -> None:
    record = build(instance(image_min_ram="512"))
    assert record["min_ram"] == 512
    assert "min_ram" not in record["properties"]


@pytest.mark.parametrize("name", ["disk_format", "container_format", "id", "status", "checksum"])
def test_attributes_of_the_base_image_are_not_the_snapshots(name: str) -> None:
    record = build(instance(**{f"image_{name}": "value"}))
    assert name not in record
    assert name not in record["properties"]


def test_long_values_are_cut() -> None:
    record = build(instance(image_note="x" * 300))
    assert record["properties"]["note"] == "x" * 255


def test_the_users_own_properties_win() -> None:
    record = build(
        instance(image_os_distro="debian"), extra={"os_distro": "arch", "image_type": "mine"}
    )
    assert record["properties"]["os_distro"] == "arch"
    assert record["properties"]["image_type"] == "mine"


@pytest.mark.parametrize("name", ["id", "status", "owner", "visibility", "size", "name"])
def test_an_attribute_cannot_be_set_as_a_property(name: str) -> None:
    with pytest.raises(exception.InvalidImageProperty, match=name):
        build(instance(), extra={name: "value"})


def test_the_owner_of_the_instance_gets_to_see_an_admins_snapshot() -> None:
    assert build(instance(), project="admins")["visibility"] == "shared"
