# SPDX-License-Identifier: Apache-2.0
"""A host for the matrix: libvirt with guests, Glance, SQLite, and the service to kill."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

import requests
import sqlalchemy as sa
from oslo_config import cfg
from oslo_db import options as db_options

from nova_snap import conf as nova_conf
from nova_snap.conf import opts
from nova_snap.context import RequestContext
from nova_snap.db import models
from nova_snap.db.session import Database
from nova_snap.objects.snapshot_request import SnapshotRequest
from tests.crash import victim
from tests.crash.scenarios import GuestName, Scenario
from tests.fixtures import probe
from tests.fixtures.cache import REPOSITORY
from tests.fixtures.commands import run
from tests.fixtures.console import ConsoleTimeout, ConsoleUnavailable, GuestCommandFailed
from tests.fixtures.deployment import Client, Deployment
from tests.fixtures.disks import write_pattern
from tests.fixtures.domain_xml import NovaMetadata, nova_metadata_xml
from tests.fixtures.glance import Glance
from tests.fixtures.lab_guest import Guest
from tests.fixtures.libvirtd import LibvirtdLab
from tests.fixtures.service_process import ServiceFailed, ServiceProcess

COMMAND = "nova-snap-all"
USER, PROJECT = "kim", "shop"
ROTATION = 2
START_SECONDS = 90
MIB = 1 << 20
_DATA_DISK = 64 * MIB
# An upload takes half a second then, so that it can be hit.
_BANDWIDTH = 64


class World:
    """The host; a context manager that leaves nothing behind.

    :cvar commands: the services, the one to kill first.
    :cvar program: the module that runs them: see :mod:`tests.crash.victim`.
    :ivar guests: by the names that scenarios have for them.
    :ivar starts: how often the services were started.
    """

    commands: ClassVar[Sequence[str]] = (COMMAND,)
    program: ClassVar[str] = "tests.crash.victim"

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._stack = contextlib.ExitStack()
        self.guests: dict[str, Guest] = {}
        self.second_disks: dict[str, Path] = {}
        self.starts = 0
        self._scenario: Scenario | None = None
        self._state = directory / "deployment"
        self.deployment: Deployment | None = None

    def __enter__(self) -> Self:
        with self._stack:
            # A daemon: it does not die with the service.
            self.lab = self._stack.enter_context(LibvirtdLab())
            glance = Glance(self.directory / "glance", auth="trusted")
            self.glance = self._stack.enter_context(glance)
            self.enter_more(self._stack)
            self.sockets = self.lab.root / "s"
            self.sockets.mkdir()
            self._state.mkdir()
            self.make_guests()
            self._stack.callback(self.stop)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    def enter_more(self, stack: contextlib.ExitStack) -> None:
        """Start what else the services need."""

    # -- the service ---------------------------------------------------------------------------

    @property
    def service(self) -> ServiceProcess:
        """The process to kill, which has libvirt."""
        assert self.deployment is not None
        return self.deployment.services[self.commands[0]]

    def probe(self, command: str) -> Path:
        """The directory of a service's trace and socket: see :mod:`tests.crash.victim`."""
        return self.lab.root if command == self.commands[0] else self.lab.root / command[-3:]

    @property
    def client(self) -> Client:
        """The owner of the guests."""
        assert self.deployment is not None
        return self.deployment.client(USER, PROJECT)

    def configure(self, scenario: Scenario) -> None:
        """Have the service, which does not run, do things the scenario's way when it is started."""
        first = self.deployment is None
        port = 0 if self.deployment is None else self.deployment.port
        self._scenario = scenario
        self.deployment = Deployment(self._state, self.settings(scenario), self.commands, port=port)
        for name, service in self.deployment.services.items():
            self.probe(name).mkdir(exist_ok=True)
            service.argv = [sys.executable, "-m", self.program, name, *service.argv[1:]]
        if first:
            self.deployment.manage("db", "sync")
            self.deployment.manage("instance", "adopt", "--all")

    def settings(self, scenario: Scenario) -> dict[str, dict[str, Any]]:
        """The configuration."""
        return {
            "DEFAULT": {"snapshot_pending_timeout": 30},
            "glance": {"api_servers": self.glance.url},
            "libvirt": {
                "connection_uri": self.lab.uri,
                "virt_type": "qemu",
                "snapshot_socket_directory": self.sockets,
                "snapshot_scratch_reserve": 64,
                "snapshot_bandwidth": _BANDWIDTH,
                "agent_timeout": 5,
                **scenario.options,
            },
        }

    def start(self, target: Mapping[str, Any] | None = None) -> bool:
        """Start what does not run of the services.

        :param target: where it is to die, see :class:`tests.crash.boundaries.Boundaries`.
        :returns: whether it serves; it may have died by ``target`` before that.
        :raises ServiceFailed: if it does not start for another reason.
        """
        assert self.deployment is not None
        assert self._scenario is not None
        self.starts += 1
        for name, service in self.deployment.services.items():
            service.env = {
                **os.environ,
                "PYTHONPATH": str(REPOSITORY),
                victim.DIRECTORY_ENV: str(self.probe(name)),
                victim.URI_ENV: self.lab.uri,
                victim.TARGET_ENV: json.dumps(target or {}),
                victim.OLD_LIBVIRT_ENV: "1" if self._scenario.old_libvirt else "",
                **self.environment(),
            }
        try:
            self.deployment.start(START_SECONDS)
        except ServiceFailed:
            if target and not self.service.running:
                return False
            raise
        if target:
            self.ask("arm")
        return True

    def environment(self) -> Mapping[str, str]:
        """What else is in the services' environment."""
        return {}

    def stop(self) -> None:
        """Stop the service as an operator does."""
        if self.deployment is not None:
            self.deployment.stop()

    def ask(self, step: str, /, **arguments: Any) -> Any:
        """Ask the process that has libvirt: see :meth:`ask_of`."""
        return self.ask_of(self.commands[0], step, **arguments)

    def ask_of(self, command: str, step: str, /, **arguments: Any) -> Any:
        """Ask a service: a step of :mod:`tests.crash.victim`.

        :raises RuntimeError: if libvirt refuses.
        :raises OSError: if the process is dead.
        """
        return probe.ask(self.probe(command) / victim.SOCKET, step, **arguments)

    def trace(self, command: str | None = None) -> list[tuple[str, str, int]]:
        """The boundaries that a service has passed since it was armed: when, label, nth.

        :param command: by default the one that has libvirt.
        """
        text = (self.probe(command or self.commands[0]) / victim.TRACE).read_text()
        rows = [line.split("\t") for line in text.splitlines()]
        return [(when, label, int(nth)) for when, label, nth in rows]

    @property
    def snapshots(self) -> Path:
        """Where snapshots have their temporary files."""
        return self._state / "state" / "snapshots"

    def log(self) -> str:
        """All that the service has logged."""
        assert self.deployment is not None
        return self.deployment.log()

    # -- requests ------------------------------------------------------------------------------

    def request(self, scenario: Scenario) -> tuple[str, str | None]:
        """Ask for a snapshot, or a backup.

        :returns: the image's name, which no other has, and its id, if the client was told.
        """
        name = f"{scenario.name}-{time.monotonic_ns()}"
        try:
            answer = self.post(scenario, name)
        except requests.RequestException:
            return name, None
        if answer.status_code != requests.codes.accepted:
            raise AssertionError(f"{name}: {answer.status_code}: {answer.text}")
        return name, answer.json()["image_id"]

    def post(self, scenario: Scenario, name: str) -> requests.Response:
        """The request itself.

        :raises requests.RequestException: if there is no answer.
        """
        body: dict[str, Any] = {"createImage": {"name": name}}
        if scenario.backup:
            body = {"createBackup": {"name": name, "backup_type": "daily", "rotation": ROTATION}}
        return self.client.post(f"/servers/{self.guests[scenario.guest].uuid}/action", body)

    def actions(self, guest: Guest) -> list[dict[str, Any]]:
        """What was asked of a guest, newest first."""
        answer = self.client.get(f"/servers/{guest.uuid}/os-instance-actions")
        answer.raise_for_status()
        found: list[dict[str, Any]] = answer.json()["instanceActions"]
        return found

    def images(self, **wanted: str) -> list[dict[str, Any]]:
        """Everything in Glance that came of a snapshot."""
        client = self.glance.client(USER, PROJECT, "admin")
        images = [dict(image) for image in client.images.list()]
        return [
            image
            for image in images
            if "instance_uuid" in image
            and all(image.get(key) == value for key, value in wanted.items())
        ]

    def backups(self) -> list[str]:
        """The ids of all whole backups, the oldest first."""
        found = [i for i in self.images(image_type="backup") if i["status"] == "active"]
        return [image["id"] for image in sorted(found, key=lambda image: image["created_at"])]

    def forget_snapshots(self) -> None:
        """Delete what is of type snapshot in Glance."""
        client = self.glance.client(USER, PROJECT, "admin")
        for image in self.images(image_type="snapshot"):
            client.images.delete(image["id"])

    def download(self, image_id: str, path: Path) -> None:
        """An image's bytes."""
        with path.open("wb") as file:
            for piece in self.glance.client(USER, PROJECT, "admin").images.data(image_id):
                file.write(piece)

    # -- the database --------------------------------------------------------------------------

    @contextlib.contextmanager
    def _database(self) -> Any:
        assert self.deployment is not None
        conf = cfg.ConfigOpts()
        nova_conf.register_opts(conf)
        conf.register_opts(db_options.database_opts, group="database")
        opts.set_lib_defaults()
        arguments = ["--config-file", str(self.deployment.config)]
        conf(arguments, project="nova_snap", default_config_files=[])
        database = Database(conf)
        try:
            yield database
        finally:
            database.close()

    def requests_left(self) -> Sequence[object]:
        """What the journal of requests has."""
        with self._database() as database:
            return SnapshotRequest.count_by_phase(RequestContext(db=database, overwrite=False))

    def age_requests(self, seconds: float) -> None:
        """Let the journal's requests be older than they are: the reaper is patient."""
        past = datetime.timedelta(seconds=seconds)
        with self._database() as database, database.writer() as session:
            for row in session.scalars(sa.select(models.SnapshotRequest)):
                row.phase_since -= past

    # -- guests --------------------------------------------------------------------------------

    def make_guests(self) -> None:
        """Define the guests, and bring them into their states."""
        client = self.glance.client(USER, PROJECT)
        for name in ("writer", "still", "off"):
            agent = {"hw_qemu_guest_agent": "yes"} if name == "writer" else {}
            base = client.images.create(name=f"base of {name}", **agent)
            self.guests[name] = self.define(name, base["id"])
        still, writer = self.guests["still"], self.guests["writer"]
        still.start(paused=True)
        writer.start()
        writer.wait_ready()
        writer.wait_agent()
        writer.start_writer()

    def define(self, name: str, image_id: str, project: str = PROJECT) -> Guest:
        """A guest with two disks, shut off.

        :param image_id: that it is said to be made from.
        """
        disk = self.lab.make_disk("qcow2-backed", name)
        second = disk.path.with_name("disk.second")
        run("qemu-img", "create", "-q", "-f", "qcow2", second, str(_DATA_DISK))
        write_pattern(second, "qcow2", 3 * MIB, 5 * MIB, 0x5A)
        self.second_disks[name] = second
        metadata = NovaMetadata(name=name, user_id=USER, project_id=project, image_id=image_id)
        return self.lab.define_guest(
            name, disk, metadata_xml=nova_metadata_xml(metadata),
            devices_xml=f"""<disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
                <source file='{second}'/><target dev='vdb' bus='virtio'/></disk>""",
        )  # fmt: skip

    def counter(self, name: GuestName) -> int | None:
        """How often a guest has written; ``None`` for one that does not write, or does not say."""
        if name != "writer":
            return None
        try:
            return self.guests[name].counter()
        except (ConsoleTimeout, ConsoleUnavailable, GuestCommandFailed):
            return None

    def disks(self, name: GuestName) -> dict[str, Path]:
        """A guest's disks, by target."""
        return {"vda": self.guests[name].disk_path, "vdb": self.second_disks[name]}


def wait_until(condition: Callable[[], Any], seconds: float) -> bool:
    """Whether it came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
