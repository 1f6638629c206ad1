# SPDX-License-Identifier: Apache-2.0
"""The API with the real compute API behind it; images and messages stay in memory."""

import datetime
import json
import pathlib
import shutil
from typing import Any

import webob
from oslo_config import cfg

from nova_snap import conf as nova_conf
from nova_snap import exception
from nova_snap.api import app
from nova_snap.compute import api, lifecycle_api, power_actions, vm_states
from nova_snap.conf import opts
from nova_snap.context import RequestContext
from nova_snap.db import migration
from nova_snap.db.session import Database
from nova_snap.objects import flavor
from nova_snap.objects.block_device import BlockDeviceMapping, BlockDeviceMappingList
from nova_snap.objects.instance import Flavor, Instance
from nova_snap.objects.instance_fault import InstanceFault
from nova_snap.objects.service import COMPUTE
from nova_snap.objects.service import Service as ComputeService
from tests.fixtures.images import MemoryImages
from tests.fixtures.volumes import MemoryVolumes

PROJECT = "0123456789abcdef0123456789abcdef"
OTHER_PROJECT = "fedcba9876543210fedcba9876543210"
TOKEN = f"alice:{PROJECT}"
OTHER_TOKEN = f"bob:{OTHER_PROJECT}"
ADMIN_TOKEN = f"admin:{PROJECT}"
HOST = "compute-1"
IMAGE = "11111111-1111-1111-1111-111111111111"

ACTIVE = "00000000-0000-0000-0000-000000000001"
STOPPED = "00000000-0000-0000-0000-000000000002"
FAILED = "00000000-0000-0000-0000-000000000003"
VOLUME_BACKED = "00000000-0000-0000-0000-000000000004"
FOREIGN = "00000000-0000-0000-0000-000000000005"
DELETED = "00000000-0000-0000-0000-000000000006"
BUSY = "00000000-0000-0000-0000-000000000007"
NOWHERE = "00000000-0000-0000-0000-000000000008"
UNKNOWN = "00000000-0000-0000-0000-00000000ffff"

VOLUME = "22222222-2222-2222-2222-222222222222"


class Casts:
    """Takes the place of the messages to compute hosts: remembers them, or fails.

    :ivar sent: instance and image, of snapshots and backups.
    :ivar asked: instance and what is to be done with it, of everything else.
    :ivar console: what a guest has printed.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.rotations: list[tuple[str, int]] = []
        self.asked: list[tuple[str, str]] = []
        self.console = "one\ntwo\nthree"
        self.fail: Exception | None = None

    def build_instance(self, ctxt: RequestContext, instance: Instance, network: str) -> None:
        self._ask(instance, f"build on {network}")

    def terminate_instance(self, ctxt: RequestContext, instance: Instance) -> None:
        self._ask(instance, "terminate")

    def switch_instance(
        self, ctxt: RequestContext, instance: Instance, action: power_actions.PowerAction
    ) -> None:
        self._ask(instance, f"{action.name} over {action.task_state}")

    def get_console_output(
        self, ctxt: RequestContext, instance: Instance, length: int | None
    ) -> str:
        self._ask(instance, f"console {length}")
        return self.console

    def _ask(self, instance: Instance, what: str) -> None:
        if self.fail is not None:
            raise self.fail
        self.asked.append((instance.uuid, what))

    def snapshot_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        if not instance.host:
            raise exception.InstanceNotReady(instance_uuid=instance.uuid)
        if self.fail is not None:
            raise self.fail
        self.sent.append((instance.uuid, image_id))

    def backup_instance(
        self,
        ctxt: RequestContext,
        instance: Instance,
        image_id: str,
        backup_type: str,
        rotation: int,
    ) -> None:
        self.snapshot_instance(ctxt, instance, image_id)
        self.rotations.append((backup_type, rotation))


class Service:
    """A database below ``directory``, and the application over it.

    :param template: another service's database to begin with, instead of an empty one.
    :ivar images: the image service: its records, and what it is told to fail.
    :ivar casts: what the compute hosts were asked for.
    """

    def __init__(self, directory: pathlib.Path, template: pathlib.Path | None = None) -> None:
        self.conf = cfg.ConfigOpts()
        nova_conf.register_opts(self.conf)
        opts.set_lib_defaults()
        self.conf([], project="nova_snap", default_config_files=[])
        self.conf.set_override("state_path", str(directory / "state"))
        self.conf.set_override("api_servers", ["http://glance.example.org:9292/"], "glance")
        self.database = Database(self.conf)
        self.path = directory / "state" / "nova_snap.sqlite"
        if template is not None:
            shutil.copyfile(template, self.path)
        else:
            migration.sync(self.database)
        self.images = MemoryImages()
        self.volumes = MemoryVolumes()
        self.volumes.add(VOLUME)
        self.casts = Casts()
        # The only host there is, alive for as long as any test takes.
        self.conf.set_override("service_down_time", 3600)
        ComputeService.register(self.context(), HOST, COMPUTE, "compute")
        self.rebuild()

    def rebuild(self) -> None:
        """Make the application again, after a change of the configuration."""
        compute_api = api.API(self.conf, self.images, self.casts, self.volumes)  # type: ignore[arg-type]
        lifecycle = lifecycle_api.LifecycleAPI(self.conf, self.images, self.casts)  # type: ignore[arg-type]
        self.app = app.build_app(self.conf, self.database, compute_api, lifecycle, self.images)

    def close(self) -> None:
        self.database.close()
        self.conf.clear_override("api_servers", "glance")

    # -- requests --------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        token: str | None = TOKEN,
        version: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> webob.Response:
        """What the application answers; ``body`` is sent as JSON, or as it is if it is bytes."""
        given = dict(headers or {})
        if token is not None:
            given["X-Auth-Token"] = token
        if version is not None:
            given["OpenStack-API-Version"] = f"compute {version}"
        request = webob.Request.blank(path, method=method, headers=given)
        if body is not None:
            request.body = body if isinstance(body, bytes) else json.dumps(body).encode()
            if "Content-Type" not in given:
                request.content_type = "application/json"
        return request.get_response(self.app)

    def get(self, path: str, **how: Any) -> webob.Response:
        return self.request("GET", path, **how)

    def create_image(
        self, server_id: str, name: object = "snap", metadata: object = None, **how: Any
    ) -> webob.Response:
        entity = {"name": name} if metadata is None else {"name": name, "metadata": metadata}
        body = {"createImage": entity}
        return self.request("POST", f"/v2.1/servers/{server_id}/action", body, **how)

    def action(self, server_id: str, name: str, value: object = None, **how: Any) -> webob.Response:
        return self.request("POST", f"/v2.1/servers/{server_id}/action", {name: value}, **how)

    def create_server(
        self, version: str = "2.1", hints: object = None, token: str = TOKEN, **server: Any
    ) -> webob.Response:
        """Ask for a server; the image and the flavor are there unless said otherwise."""
        given = {"name": "new", "imageRef": IMAGE, "flavorRef": "1", **server}
        if "networks" not in given and int(version.split(".")[1]) >= 37:
            given["networks"] = "none"
        body: dict[str, Any] = {
            "server": {key: value for key, value in given.items() if value is not ...}
        }
        if hints is not None:
            body["os:scheduler_hints"] = hints
        return self.request("POST", "/v2.1/servers", body, token=token, version=version)

    def offer(self) -> None:
        """An image and a flavor for new servers."""
        flavor.Flavor("1", "m1.tiny", 512, 1, 1).create(self.context())
        self.images.records[IMAGE] = {
            "id": IMAGE,
            "name": "cirros",
            "status": "active",
            "size": 2**20,
            "min_disk": 0,
            "min_ram": 0,
            "disk_format": "qcow2",
            "container_format": "bare",
            "visibility": "public",
            "owner": PROJECT,
        }

    def create_backup(self, server_id: str, rotation: object = 1, **how: Any) -> webob.Response:
        """``more`` goes into the request's body."""
        entity = {"name": "b", "backup_type": "daily", "rotation": rotation, **how.pop("more", {})}
        body = {"createBackup": entity}
        return self.request("POST", f"/v2.1/servers/{server_id}/action", body, **how)

    # -- instances -------------------------------------------------------------------------

    def context(self, **values: Any) -> RequestContext:
        """An administrator's, for looking at what the requests left."""
        given: dict[str, Any] = {"is_admin": True, "roles": ["admin"], "overwrite": False, **values}
        return RequestContext(db=self.database, **given)

    def instance(self, uuid: str) -> Instance:
        return Instance.get_by_uuid(self.context(), uuid)

    def add(self, uuid: str, **values: Any) -> Instance:
        """An active instance of the project, with one local disk."""
        given: dict[str, Any] = {
            "uuid": uuid,
            "name": f"instance-{uuid[-8:]}",
            "display_name": f"server-{int(uuid[-4:], 16)}",
            "hostname": "web",
            "project_id": PROJECT,
            "user_id": "alice",
            "host": HOST,
            "flavor": Flavor("m1.tiny", 1, 512, 1, flavorid="1", extra_specs={"hw:cpu": "x"}),
            "image_ref": IMAGE,
            "power_state": 1,
            "root_device_name": "/dev/vda",
            "metadata": {"role": "web"},
            "launched_at": datetime.datetime(2026, 1, 2, 3, 4, 5, 678),
            **values,
        }
        disks = given.pop("disks", [BlockDeviceMapping("image", "local", boot_index=0)])
        instance = Instance(**given)
        instance.create(self.context())
        BlockDeviceMappingList(disks).create(self.context(), uuid)
        return instance

    def populate(self) -> None:
        """One instance of each kind."""
        self.add(ACTIVE, display_name="web")
        self.add(STOPPED, vm_state=vm_states.STOPPED, power_state=4, display_name="db")
        self.add(FAILED, vm_state=vm_states.ERROR)
        self.fail(FAILED, 500, "No valid host was found.", "Traceback ...")
        volume = BlockDeviceMapping(
            "volume", "volume", boot_index=0, volume_id=VOLUME, delete_on_termination=True
        )
        self.add(VOLUME_BACKED, image_ref=None, disks=[volume])
        self.add(FOREIGN, project_id=OTHER_PROJECT, user_id="bob")
        self.add(DELETED).destroy()
        self.add(BUSY, task_state="image_uploading")
        self.add(NOWHERE, host=None, hostname=None, launched_at=None, vm_state=vm_states.BUILDING)

    def fail(self, uuid: str, code: int, message: str, details: str | None) -> None:
        """Give the instance a fault."""
        InstanceFault(uuid, code, message, details, HOST).create(self.context())
