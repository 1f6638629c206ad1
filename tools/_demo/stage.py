# SPDX-License-Identifier: Apache-2.0
"""What the demonstration takes place on: Glance, a guest under a private libvirt, nova_snap."""

from __future__ import annotations

import contextlib
import shlex
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import requests

from tests.fixtures.commands import run
from tests.fixtures.disks import write_pattern
from tests.fixtures.domain_xml import NovaMetadata, nova_metadata_xml
from tests.fixtures.glance import Glance
from tests.fixtures.lab_guest import READY, Guest
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.fixtures.service_process import ServiceProcess
from tools._common.errors import CommandRefused, TookTooLong
from tools._common.home import Home
from tools._common.ports import Ports
from tools._demo.listeners import GLANCE, NOVA_SNAP
from tools._demo.openstack import write_clouds

BIN = Path(sys.executable).parent
USER = PROJECT = "demo"
DOMAIN = "instance-00000001"
SERVER = "web"
STATE = "state"
DISK_SIZE = 1 << 30
DATA_SIZE = 256 << 20
DATA_BYTE = 0x5A
START_SECONDS = 60
BOOT_SECONDS = 120
POWER_OFF_SECONDS = 60

# nova_snap's configuration; a dollar sign would begin the name of an option.
CONFIG = """\
[DEFAULT]
state_path = {state_path}
host = demo-host
osapi_compute_listen = 127.0.0.1
osapi_compute_listen_port = {port}
graceful_shutdown_timeout = 5

[libvirt]
connection_uri = {libvirt_uri}
virt_type = qemu

[glance]
api_servers = {glance_url}
"""


class Stage:
    """The parts, each started by a method of its own; :meth:`Home.clear` ends them all."""

    def __init__(self, home: Home, ports: Ports) -> None:
        self.home = home
        self.url = f"http://127.0.0.1:{ports[NOVA_SNAP]}"
        self._ports = ports
        self.glance = Glance(home.path / "glance", port=ports[GLANCE])
        self.lab = LibvirtLab(home.new_root())
        self.service = ServiceProcess(
            "nova-snap-all",
            [BIN / "nova-snap-all", "--config-file", home.config],
            home.logs / "nova-snap-all.log",
            cwd=home.path,
        )

    @property
    def state_path(self) -> Path:
        """Where nova_snap keeps its database and its temporary files."""
        return self.home.path / STATE

    @property
    def consoles(self) -> list[Path]:
        """What the guests have printed."""
        return sorted(self.lab.root.glob("c/*.log"))

    def upload_base_image(self) -> str:
        """Give Glance the image that the guest is made from, and return its id."""
        path = self.home.path / "base.qcow2"
        source = self.lab.guest_disk().path
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", source, path)
        images = self.glance.client().images
        record = images.create(
            name="demo-guest", disk_format="qcow2", container_format="bare",
            hw_qemu_guest_agent="yes", os_type="linux",
        )  # fmt: skip
        with path.open("rb") as data:
            images.upload(record["id"], data)
        path.unlink()
        return str(record["id"])

    def define_guest(self, image_id: str) -> Guest:
        """A guest as Nova would have made it, its disk an overlay over the image's.

        Besides the small system that boots, the disk holds some data, so that there is something
        to copy.
        """
        metadata = NovaMetadata(
            name=SERVER, flavor="m1.tiny", user_id=USER, user_name=USER, project_id=PROJECT,
            project_name=PROJECT, image_id=image_id,
        )  # fmt: skip
        disk = self.lab.make_disk("qcow2-backed", DOMAIN, size=DISK_SIZE)
        write_pattern(disk.path, disk.format, disk.guest.size, DATA_SIZE, DATA_BYTE)
        return self.lab.define_guest(DOMAIN, disk, metadata_xml=nova_metadata_xml(metadata))

    def boot(self, guest: Guest) -> tuple[int, int]:
        """Start a guest while no service holds its libvirt.

        :returns: how often its disk was booted from, and what its writer's counter was then.
        """
        guest.start()
        ready = guest.console.expect(READY, BOOT_SECONDS)
        return int(ready[1]), int(ready[2])

    def power_off(self, guest: Guest) -> None:
        """Have the guest shut itself down. Whoever holds its libvirt removes its pid file then.

        :raises TookTooLong: if it does not.
        """
        pid_file = self.lab.root / f"run/qemu/{guest.name}.pid"
        guest.console.send("shutdown")
        until = time.monotonic() + POWER_OFF_SECONDS
        while pid_file.exists():
            if time.monotonic() > until:
                raise TookTooLong("shutting down", POWER_OFF_SECONDS, guest.console.output()[-500:])
            time.sleep(0.05)

    def configure(self) -> None:
        """Write nova_snap's configuration."""
        self.home.config.write_text(
            CONFIG.format(
                state_path=str(self.state_path).replace("$", "$$"),
                port=self._ports[NOVA_SNAP],
                libvirt_uri=self.lab.uri,
                glance_url=self.glance.url,
            )
        )

    def write_clouds(self, path: Path) -> None:
        """Write a clouds.yaml for what was started."""
        write_clouds(path, nova_snap=self.url, glance=self.glance.url, token=f"{USER}:{PROJECT}")

    def adopt(self) -> None:
        """Make the guest an instance, as an operator would."""
        for words in (("db", "sync"), ("instance", "adopt", "--domain", DOMAIN)):
            argv = [BIN / "nova-snap-manage", "--config-file", self.home.config, *words]
            done = run(*argv, timeout=120, ok=range(256))
            if done.returncode:
                printed = (done.stdout + done.stderr).decode("utf-8", "replace")
                command = shlex.join(["nova-snap-manage", *words])
                raise CommandRefused(command, f"exit code {done.returncode}", printed)

    def start_service(self) -> None:
        """Start nova-snap-all, which takes hold of the guest's libvirt."""
        self.service.start()
        self.service.wait_until(self._is_healthy, START_SECONDS)

    @contextlib.contextmanager
    def guest_from(self, image: Path, image_format: str) -> Iterator[Guest]:
        """A new guest, under a libvirt of its own, that boots from an image."""
        lab = LibvirtLab(self.home.new_root())
        disk = lab.instances / "disk"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-F", image_format, "-b", image, disk)
        try:
            yield lab.define_guest("from-snapshot", disk, disk_format="qcow2")
        finally:
            for log in lab.root.glob("c/*.log"):
                (self.home.logs / "from-snapshot-console.log").write_bytes(log.read_bytes())
        lab.close()

    def save_logs(self) -> None:
        """Bring the logs that lie elsewhere to the others."""
        named = {"glance.log": self.glance.log}
        named |= {f"{path.stem}-console.log": path for path in self.consoles}
        for name, path in named.items():
            if path.exists():
                (self.home.logs / name).write_bytes(path.read_bytes())

    def _is_healthy(self) -> bool:
        with contextlib.suppress(requests.RequestException):
            return requests.get(f"{self.url}/healthcheck", timeout=5).ok
        return False
