# SPDX-License-Identifier: Apache-2.0
"""What the image of a volume-backed server says of its disks."""

import json

from nova_snap.compute import volume_mapping
from nova_snap.objects.block_device import BlockDeviceMapping

ROOT = BlockDeviceMapping(
    "volume",
    "volume",
    device_type="disk",
    disk_bus="virtio",
    device_name="/dev/vda",
    boot_index=0,
    volume_id="v1",
    volume_size=20,
    delete_on_termination=True,
)
DATA = BlockDeviceMapping(
    "image", "volume", device_name="/dev/vdb", boot_index=-1, volume_id="v2", image_id="i"
)
SWAP = BlockDeviceMapping(
    "blank", "local", device_name="/dev/vdc", guest_format="swap", boot_index=-1, volume_size=1
)


def test_local_disks_come_first_and_each_volume_has_its_snapshot() -> None:
    swap, root, data = volume_mapping.build([ROOT, DATA, SWAP], {"v1": "s1", "v2": "s2"})
    assert root == {
        "boot_index": 0,
        "delete_on_termination": True,
        "destination_type": "volume",
        "device_name": "/dev/vda",
        "device_type": "disk",
        "disk_bus": "virtio",
        "guest_format": None,
        "image_id": None,
        "no_device": None,
        "snapshot_id": "s1",
        "source_type": "snapshot",
        "tag": None,
        "volume_id": None,
        "volume_size": 20,
        "volume_type": None,
    }
    assert (data["source_type"], data["snapshot_id"], data["image_id"]) == ("snapshot", "s2", None)
    assert (swap["source_type"], swap["destination_type"]) == ("blank", "local")
    assert (swap["guest_format"], swap["snapshot_id"]) == ("swap", None)


def test_properties_are_text() -> None:
    found = volume_mapping.properties([ROOT], {"v1": "s1"}, "/dev/vda")
    assert json.loads(found["block_device_mapping"]) == volume_mapping.build([ROOT], {"v1": "s1"})
    assert found["bdm_v2"] == "True"
    assert found["root_device_name"] == "/dev/vda"
    assert "root_device_name" not in volume_mapping.properties([ROOT], {"v1": "s1"}, None)
