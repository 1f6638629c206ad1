# SPDX-License-Identifier: Apache-2.0
"""Backups with rotation: a real Glance, and a guest of its own for the whole way."""

import io
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap.compute.backup import Rotation, rotate_backups
from nova_snap.context import RequestContext
from nova_snap.image import glance as image_glance
from tests.fixtures import disk_image
from tests.fixtures.deployment import Client, Deployment
from tests.fixtures.glance import Glance
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab

SOON = 60
PAGE = 25  # of Glance's, unless it is told otherwise


class TestGlance:
    @pytest.fixture
    def api(self, conf: cfg.ConfigOpts, trusted_glance: Glance) -> image_glance.API:
        conf.set_override("api_servers", [trusted_glance.url], "glance")
        return image_glance.API(conf)

    @pytest.fixture
    def asker(self) -> RequestContext:
        """As the compute service asks: for the user's project, with administrator's rights."""
        return RequestContext(
            user_id="kim", project_id=f"shop-{uuid.uuid4().hex[:8]}", roles=["member", "admin"]
        )

    @pytest.fixture
    def instance(self) -> str:
        return str(uuid.uuid4())

    def add(
        self, api: image_glance.API, asker: RequestContext, instance: str, **values: Any
    ) -> str:
        properties = {
            "image_type": "backup",
            "backup_type": "t\u00e4glich, 3:00",
            "instance_uuid": instance,
            **values,
        }
        made = api.create(asker, {"name": "b", "visibility": "private", "properties": properties})
        image_id: str = made["id"]
        formats = {"disk_format": "raw", "container_format": "bare"}
        api.update(asker, image_id, formats, io.BytesIO(b"data"), 4)
        return image_id

    def left(self, api: image_glance.API, asker: RequestContext) -> set[str]:
        return {image["id"] for image in api.get_all(asker, {"owner": asker.project_id or ""})}

    def test_more_than_a_page(
        self, api: image_glance.API, asker: RequestContext, instance: str
    ) -> None:
        made = [self.add(api, asker, instance) for _ in range(PAGE + 2)]
        other = RequestContext(user_id="lee", project_id="other", roles=["member"])
        foreign = self.add(api, other, instance)
        weekly = self.add(api, asker, instance, backup_type="weekly")
        others = self.add(api, asker, str(uuid.uuid4()))
        queued = api.create(asker, {"name": "q", "properties": {"instance_uuid": instance}})["id"]
        rotation = Rotation("t\u00e4glich, 3:00", 1)
        rotated = rotate_backups(asker, api, instance, made[-1], rotation)
        assert set(rotated.deleted) == set(made[:-1])
        assert self.left(api, asker) == {made[-1], weekly, others, queued}
        assert api.get(other, foreign)["status"] == "active"

    def test_a_protected_one_stays_and_the_others_go(
        self, api: image_glance.API, asker: RequestContext, instance: str
    ) -> None:
        first, second, third = (self.add(api, asker, instance) for _ in range(3))
        api.update(asker, second, {"protected": True})
        rotated = rotate_backups(asker, api, instance, third, Rotation("t\u00e4glich, 3:00", 0))
        assert self.left(api, asker) == {second}
        assert set(rotated.deleted) == {first, third}
        assert "protected" in rotated.left[second]


class TestGuest:
    @pytest.fixture
    def guest(self, detached_libvirt_lab: LibvirtLab) -> Guest:
        """Shut off: each of its backups is the same bytes."""
        disk = detached_libvirt_lab.make_disk("qcow2-backed")
        return detached_libvirt_lab.define_guest("instance-00000001", disk)

    @pytest.fixture
    def deployment(
        self, tmp_path: Path, detached_libvirt_lab: LibvirtLab, trusted_glance: Glance
    ) -> Iterator[Deployment]:
        options: dict[str, dict[str, Any]] = {
            "libvirt": {
                "connection_uri": detached_libvirt_lab.uri,
                "virt_type": "qemu",
                "snapshot_socket_directory": detached_libvirt_lab.root,
            },
            "glance": {"api_servers": trusted_glance.url},
            # Into the log of the process.
            "oslo_messaging_notifications": {"driver": "log"},
        }
        with Deployment(tmp_path, options, ["nova-snap-all"]) as made:
            made.manage("db", "sync")
            yield made

    def test_daily_and_weekly(
        self, deployment: Deployment, guest: Guest, trusted_glance: Glance, tmp_path: Path
    ) -> None:
        project = f"shop-{uuid.uuid4().hex[:8]}"
        deployment.manage("instance", "adopt", "--all", "--project", project, "--user", "kim")
        deployment.start()
        client = deployment.client(project=project)
        images = trusted_glance.client(user_id="kim", project_id=project).images

        weekly = backup(client, guest.uuid, "weekly", 1)
        daily = [backup(client, guest.uuid, "daily", 2) for _ in range(3)]
        assert {image["id"] for image in images.list()} == {weekly, *daily[1:]}
        for image_id in (weekly, *daily[1:]):
            record = images.get(image_id)
            assert (record["status"], record["image_type"]) == ("active", "backup")
            path = tmp_path / image_id
            path.write_bytes(b"".join(images.data(image_id)))
            assert disk_image.differences(path, "qcow2", guest.disk_path, "qcow2") == ""

        assert backup(client, guest.uuid, "daily", 0) is None
        assert {image["id"] for image in images.list()} == {weekly}
        actions = client.get(f"/servers/{guest.uuid}/os-instance-actions").json()["instanceActions"]
        assert [each["action"] for each in actions] == ["createBackup"] * 5
        assert [each["message"] for each in actions] == [None] * 5
        told = re.findall(r'"event_type": "(instance\.snapshot\.\w+)"', deployment.log())
        assert told == ["instance.snapshot.start", "instance.snapshot.end"] * 5


def backup(client: Client, server: str, backup_type: str, rotation: int) -> str | None:
    """Take one, and wait until what is too many is gone; the image's id, if the answer has it."""
    entity = {"name": backup_type, "backup_type": backup_type, "rotation": rotation}
    answer = client.post(f"/servers/{server}/action", {"createBackup": entity})
    assert answer.status_code == 202, answer.text
    path = f"/servers/{server}/os-instance-actions/{answer.headers['X-OpenStack-Request-Id']}"
    until = time.monotonic() + SOON
    while True:
        action = client.get(path).json()["instanceAction"]
        ended = {each["event"] for each in action["events"] if each["finish_time"]}
        if ended == {"compute_backup_instance", "rotate_backups"}:
            break
        assert action["message"] is None, action["message"]
        assert time.monotonic() < until, "the backup does not end"
        time.sleep(0.1)
    assert {each["result"] for each in action["events"]} == {"Success"}
    assert client.server(server)["OS-EXT-STS:task_state"] is None
    return answer.json()["image_id"] if answer.content else None
