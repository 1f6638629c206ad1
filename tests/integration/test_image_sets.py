# SPDX-License-Identifier: Apache-2.0
"""All disks of a guest, from the request to Glance: the whole set is there, or none of it."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures import disk_image
from tests.fixtures.deployment import Client, Deployment
from tests.fixtures.glance import Glance
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import all_disks_parts
from tests.functional.all_disks_parts import FORMATS, OTHERS

SERVICE = "nova-snap-all"
SOON = 60


class Cloud:
    """A deployment whose guest has three disks, and the images of its project."""

    def __init__(self, deployment: Deployment, guest: Guest, glance: Glance) -> None:
        self.project = f"shop-{uuid.uuid4().hex[:8]}"
        self.deployment = deployment
        self.guest = guest
        deployment.manage("instance", "adopt", "--all", "--project", self.project, "--user", "kim")
        deployment.start()
        self.client: Client = deployment.client(project=self.project)
        self.images = glance.client(user_id="kim", project_id=self.project).images

    def by_disk(self, image_id: str) -> dict[str, Any]:
        """The images of a set, as the property finds them."""
        found = self.images.list(filters={"nova_snap_set": image_id})
        return {image["nova_snap_disk"]: image for image in found}

    def wait(self, condition: Callable[[], object], what: str) -> None:
        until = time.monotonic() + SOON
        while not condition():
            assert time.monotonic() < until, f"{what}: it never came true"
            time.sleep(0.1)

    def action(self) -> dict[str, Any]:
        """The newest of the server, with its events, as an administrator sees them."""
        path = f"/servers/{self.guest.uuid}/os-instance-actions"
        client = self.deployment.client(user="admin", project=self.project)
        newest = client.get(path).json()["instanceActions"][0]
        found: dict[str, Any] = client.get(f"{path}/{newest['request_id']}").json()
        return dict(found["instanceAction"])

    def results(self) -> dict[str, str | None]:
        return {each["event"]: each["result"] for each in self.action()["events"]}

    def backup(self, name: str, rotation: int) -> str:
        body = {"createBackup": {"name": name, "backup_type": "daily", "rotation": rotation}}
        answer = self.client.post(f"/servers/{self.guest.uuid}/action", body)
        assert answer.status_code == 202, answer.text
        both = {"compute_backup_instance": "Success", "rotate_backups": "Success"}
        self.wait(lambda: self.results() == both, "the end of the backup")
        image_id: str = answer.json()["image_id"]
        return image_id

    def names(self) -> list[str]:
        return sorted(image["name"] for image in self.images.list())


@pytest.fixture
def guest(detached_libvirt_lab: LibvirtLab) -> Guest:
    """Shut off: what its images have to hold is known."""
    return all_disks_parts.define(detached_libvirt_lab, "instance-00000001")


@pytest.fixture
def cloud(
    request: pytest.FixtureRequest, tmp_path: Path, guest: Guest, trusted_glance: Glance
) -> Iterator[Cloud]:
    """``request.param`` are further options of ``[libvirt]``."""
    options: dict[str, dict[str, Any]] = {
        "libvirt": {
            "connection_uri": guest.lab.uri,
            "virt_type": "qemu",
            "snapshot_socket_directory": guest.lab.root,
            "snapshot_all_disks": True,
            **request.param,
        },
        "glance": {"api_servers": trusted_glance.url},
    }
    with Deployment(tmp_path, options, [SERVICE]) as made:
        made.manage("db", "sync")
        yield Cloud(made, guest, trusted_glance)


@pytest.mark.parametrize("cloud", [{}], indirect=True)
def test_whole_sets(cloud: Cloud, guest: Guest, tmp_path: Path) -> None:
    image_id = cloud.client.create_image(guest.uuid, "nightly", ticket="4711")
    cloud.client.wait_until_free(guest.uuid)
    found = cloud.by_disk(image_id)
    assert found.keys() == FORMATS.keys()
    assert found["vda"]["id"] == image_id
    assert {disk: image["name"] for disk, image in found.items()} == {
        "vda": "nightly", "vdb": "nightly (vdb)", "vdc": "nightly (vdc)",
    }  # fmt: skip
    assert {disk: image["disk_format"] for disk, image in found.items()} == FORMATS
    for disk, image in found.items():
        assert (image["status"], image["visibility"]) == ("active", "private")
        assert (image["owner"], image["ticket"]) == (cloud.project, "4711")
        file, file_format, _ = OTHERS.get(disk, ("disk", "qcow2", 0))
        path = tmp_path / disk
        path.write_bytes(b"".join(cloud.images.data(image["id"])))
        source = guest.disk_path.parent / file
        assert disk_image.differences(path, FORMATS[disk], source, file_format) == ""
    (event,) = cloud.action()["events"]
    assert "; 3 images: vda " in event["details"]
    assert "left out: vdd (read-only), vde (shared with other guests)" in event["details"]

    for number in range(3):
        cloud.backup(f"b{number}", rotation=2)
    kept = ["b1", "b1 (vdb)", "b1 (vdc)", "b2", "b2 (vdb)", "b2 (vdc)"]
    assert cloud.names() == [*kept, *(found[disk]["name"] for disk in FORMATS)]


@pytest.mark.parametrize("cloud", [{"snapshot_bandwidth": 4}], indirect=True)
def test_none_of_a_set(cloud: Cloud, guest: Guest) -> None:
    """Deleted by the user, and cut off by the end of the process."""

    def under_way() -> bool:
        return "saving" in [each["status"] for each in cloud.by_disk(image_id).values()]

    image_id = cloud.client.create_image(guest.uuid, "cancelled")
    cloud.wait(under_way, "the first upload")
    # Its turn has not come.
    cloud.images.delete(cloud.by_disk(image_id)["vdc"]["id"])
    began = time.monotonic()
    cloud.client.wait_until_free(guest.uuid)
    assert time.monotonic() - began < 10
    assert cloud.names() == []
    assert cloud.action()["message"].startswith("The image was deleted while the snapshot was")

    image_id = cloud.client.create_image(guest.uuid, "killed")
    cloud.wait(under_way, "the first upload")
    service = cloud.deployment.services[SERVICE]
    service.kill()
    assert cloud.names() == ["killed", "killed (vdb)", "killed (vdc)"]
    cloud.deployment.start()
    cloud.client.wait_until_free(guest.uuid)
    assert cloud.names() == []
    assert cloud.action()["message"].startswith("The compute service was restarted during ")
