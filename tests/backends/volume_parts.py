# SPDX-License-Identifier: Apache-2.0
"""An API and a compute host between a real Cinder and a real Glance, and a guest on volumes."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import webob
from oslo_config import cfg

from nova_snap.api import app
from nova_snap.compute import adoption, api, rpc, rpcapi
from nova_snap.compute.heartbeat import Heartbeat
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_api import LifecycleAPI
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.service import ComputeService
from nova_snap.compute.volume_manager import VolumeManager
from nova_snap.db.session import Database
from nova_snap.image import glance as image_glance
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.virt.libvirt.driver import LibvirtDriver
from nova_snap.volume import cinder as volume_cinder
from tests.fixtures import rbd_disk
from tests.fixtures.cinder import Cinder
from tests.fixtures.cinder_client import CinderClient
from tests.fixtures.glance import Glance
from tests.fixtures.guest.disk import guest_disk
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.fixtures.service import make_context
from tests.functional.snapshot_parts import LabHost

USER, PROJECT = "kim", "shop"
AGENT = {"hw_qemu_guest_agent": "yes"}
REQUIRED = {**AGENT, "os_require_quiesce": "yes"}


@dataclasses.dataclass(frozen=True)
class Server:
    """A guest whose disks are two volumes of 1 GiB: the first boots, the second is raw."""

    guest: Guest
    root: str
    data: str

    @property
    def volumes(self) -> tuple[str, str]:
        return self.root, self.data


def make_server(lab: LibvirtLab, cinder: Cinder, name: str, *, start: bool = True) -> Server:
    """A guest that runs, on volumes that Cinder takes to be attached to it."""
    client = cinder.client(PROJECT, USER)
    root, data = (
        client.create_volume(name=f"{name} root"),
        client.create_volume(name=f"{name} data"),
    )
    disk = rbd_disk.fill_volume(cinder.ceph, cinder.image(root), guest_disk(), root)
    second = rbd_disk.RbdDisk(cinder.ceph, cinder.image(data), data)
    guest = lab.define_guest(name, disk, devices_xml=second.xml("vdb"))
    for volume, device in ((root, "/dev/vda"), (data, "/dev/vdb")):
        client.attach(volume, guest.uuid, device)
    if start:
        guest.start()
        guest.wait_ready()
        guest.wait_agent()
    return Server(guest, root, data)


class VolumeWorld:
    """Both ends, with messages inside of this process.

    :ivar volume_api: may be replaced before :meth:`build`.
    """

    def __init__(
        self,
        lab: LibvirtLab,
        conf: cfg.ConfigOpts,
        database: Database,
        glance: Glance,
        cinder: Cinder,
        directory: Path,
    ) -> None:
        self.lab = lab
        self.conf = conf
        self.database = database
        self.cinder = cinder
        self.client: CinderClient = cinder.client(PROJECT, USER)
        self.images_client = glance.client(USER, PROJECT)
        self.snapshots = directory / "snapshots"
        for group, name, value in (
            ("api", "auth_strategy", "noauth2"),
            ("glance", "api_servers", [glance.url]),
            ("cinder", "endpoint_template", cinder.endpoint_template),
            ("libvirt", "connection_uri", lab.uri),
            ("libvirt", "virt_type", "qemu"),
            ("libvirt", "snapshots_directory", str(self.snapshots)),
            ("libvirt", "agent_timeout", 3),
            ("libvirt", "thaw_timeout", 10),
        ):
            conf.set_override(name, value, group)
        self.context = make_context(database, user_id=USER, project_id=PROJECT)
        self._transport = rpc.get_transport(conf)
        self.image_api = image_glance.API(conf)
        self.driver = LibvirtDriver(conf, self.image_api, LabHost(conf, lab))
        self.service = self._service()
        self.service.start()
        self.volume_api: Any = volume_cinder.API(conf)
        self.build()

    def build(self) -> None:
        """Make the application, after a change of the configuration or of :attr:`volume_api`."""
        hosts = rpcapi.ComputeAPI(self.conf, self._transport)
        self.compute_api = api.API(self.conf, self.image_api, hosts, self.volume_api)
        life = LifecycleAPI(self.conf, self.image_api, hosts)
        self.app = app.build_app(self.conf, self.database, self.compute_api, life, self.image_api)

    def close(self) -> None:
        self.service.stop()
        self._transport.cleanup()

    def _service(self) -> ComputeService:
        locks = InstanceLocks()
        given = (self.conf, self.database, self.image_api, self.driver)
        self.volume_manager = VolumeManager(
            self.conf, self.database, self.image_api, volume_cinder.API(self.conf), self.driver
        )
        return ComputeService(
            self.conf,
            self._transport,
            ComputeManager(*given, locks=locks),
            LifecycleManager(*given, locks),
            Heartbeat(self.conf, self.database, self.driver),
            self.volume_manager,
        )

    # -- doing -----------------------------------------------------------------------------

    def adopt(self, server: Server, properties: Mapping[str, str]) -> Instance:
        """The guest as an instance, as an operator makes it one.

        :param properties: of the image that its root volume was made from.
        """
        owner = adoption.Owner(PROJECT, USER)
        instance, _ = adoption.adopt(
            self.context, self.driver, self.image_api, self.conf.host, server.guest.name, owner
        )
        instance.system_metadata = {f"image_{key}": value for key, value in properties.items()}
        instance.save()
        return instance

    def request(self, method: str, path: str, body: Any = None) -> webob.Response:
        headers = {"X-Auth-Token": f"{USER}:{PROJECT}", "OpenStack-API-Version": "compute 2.87"}
        request = webob.Request.blank(f"/v2.1{path}", method=method, headers=headers)
        if body is not None:
            request.content_type = "application/json"
            request.body = json.dumps(body).encode()
        return request.get_response(self.app)

    def create_image(self, server: Server, **metadata: str) -> webob.Response:
        body = {"createImage": {"name": "nightly", "metadata": metadata}}
        return self.request("POST", f"/servers/{server.guest.uuid}/action", body)

    # -- looking ---------------------------------------------------------------------------

    def instance(self, server: Server) -> Instance:
        return Instance.get_by_uuid(self.context, server.guest.uuid)

    def action(self, server: Server) -> InstanceAction:
        """The newest."""
        return InstanceAction.get_by_instance_uuid(self.context, server.guest.uuid)[0]

    def images(self) -> list[str]:
        """Those of the server's user."""
        found = self.images_client.images.list()
        return [image.id for image in found if image.get("instance_uuid")]

    def snapshots_of(self, image: Mapping[str, Any]) -> dict[str, str]:
        """The snapshot of each disk, by its name, out of an image's record."""
        disks = json.loads(image["block_device_mapping"])
        return {disk["device_name"]: disk["snapshot_id"] for disk in disks}

    def assert_nothing_left(self, server: Server) -> None:
        """Neither snapshots nor images, a claim, a frozen guest, or a file on the host."""
        for volume in server.volumes:
            for snapshot in self.client.snapshots(volume):
                # It is being deleted.
                self.client._wait("snapshot", snapshot, None)
        assert self.images() == []
        self.assert_free(server)

    def assert_free(self, server: Server) -> None:
        instance = self.instance(server)
        assert (instance.task_state, instance.snapshot_image_id) == (None, None)
        self.assert_thawed(server)

    def assert_thawed(self, server: Server) -> None:
        assert not self.snapshots.exists() or os.listdir(self.snapshots) == []
        if server.guest.state()["state"] == "running":
            assert is_thawed(server)
            server.guest.run("echo alive > /data/alive && sync")


def is_thawed(server: Server) -> bool:
    return bool(server.guest.agent("guest-fsfreeze-status") == "thawed")


class Dying:
    """A volume service before which the API dies, with all that it would have put right: nothing
    that it foresees ends a request in this way."""

    def __init__(self, real: volume_cinder.API) -> None:
        self._real = real

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return getattr(self._real, name)  # type: ignore[no-any-return]

    def get_snapshot(self, *args: Any) -> Any:
        raise SystemExit("killed")


@pytest.fixture(name="world")
def volume_world(
    _session_lab: LibvirtLab,
    conf: cfg.ConfigOpts,
    database: Database,
    rbd_glance: Glance,
    cinder: Cinder,
    tmp_path: Path,
) -> Iterator[VolumeWorld]:
    """All of it; the images and the snapshots of volumes are deleted after the test."""
    made = VolumeWorld(_session_lab, conf, database, rbd_glance, cinder, tmp_path)
    yield made
    made.close()
    for image_id in made.images():
        made.images_client.images.delete(image_id)
    made.client.set_quota(snapshots=100, gigabytes=100)
    for snapshot in made.client.snapshots():
        made.client.delete_snapshot(snapshot)
