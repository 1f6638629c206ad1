# SPDX-License-Identifier: Apache-2.0
"""What the image service is told of a snapshot."""

import pytest

from nova_snap.virt.libvirt import snapshot_metadata
from tests.functional.snapshot_parts import Instance

INSTANCE = Instance("uuid", "instance-1", os_type=None)


@pytest.mark.parametrize(
    ("configured", "source", "image_format"),
    [
        (None, "qcow2", "qcow2"),
        (None, "raw", "raw"),
        (None, "lvm", "raw"),
        (None, "rbd", "raw"),
        ("qcow2", "raw", "qcow2"),
        ("vmdk", "qcow2", "vmdk"),
        ("qcow2", "rbd", "qcow2"),
    ],
)
def test_image_format(configured, source, image_format):
    assert snapshot_metadata.image_format(configured, source) == image_format


def test_least():
    assert snapshot_metadata.create({}, INSTANCE, "raw", "snap") == {
        "name": "snap",
        "disk_format": "raw",
        "container_format": "bare",
        "properties": {
            "image_location": "snapshot",
            "image_state": "available",
            "owner_id": "project-1",
        },
    }


def test_all():
    instance = Instance("u", "i", kernel_id="k", ramdisk_id="r", os_type="windows")
    properties = snapshot_metadata.create({}, instance, "qcow2", "snap")["properties"]
    assert properties["kernel_id"] == "k"
    assert properties["ramdisk_id"] == "r"
    assert properties["os_type"] == "windows"
    assert all(type(value) is str for value in properties.values())


@pytest.mark.parametrize(
    ("record", "missing"),
    [
        (
            {"name": "snap"},
            {
                "disk_format": "raw",
                "container_format": "bare",
                "properties": {
                    "image_location": "snapshot",
                    "image_state": "available",
                    "owner_id": "project-1",
                },
            },
        ),
        (
            {
                "name": "snap",
                "disk_format": "qcow2",
                "container_format": None,
                "image_location": "snapshot",
                "image_state": "available",
                "owner_id": "project-2",
            },
            {
                "disk_format": "raw",
                "container_format": "bare",
                "properties": {"owner_id": "project-1"},
            },
        ),
        (
            {
                "name": "snap",
                "disk_format": "raw",
                "container_format": "bare",
                "image_location": "snapshot",
                "image_state": "available",
                "owner_id": "project-1",
                "more": "of the user's own",
            },
            {},
        ),
    ],
)
def test_what_a_record_has_is_not_set_again(record, missing):
    wanted = snapshot_metadata.create({}, INSTANCE, "raw", "snap")
    assert snapshot_metadata.missing(wanted, record) == missing


@pytest.mark.parametrize(
    ("base", "formats"),
    [
        ({"disk_format": "ami", "container_format": "ami"}, ("ami", "ami")),
        ({"disk_format": "qcow2", "container_format": "bare"}, ("qcow2", "bare")),
        ({"disk_format": "vmdk", "container_format": "ova"}, ("qcow2", "bare")),
        ({"disk_format": "raw", "container_format": "compressed"}, ("qcow2", "bare")),
    ],
)
def test_container_of_the_base_image(base, formats):
    made = snapshot_metadata.create(base, INSTANCE, "qcow2", "snap")
    assert (made["disk_format"], made["container_format"]) == formats
