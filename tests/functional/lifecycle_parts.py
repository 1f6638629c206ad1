# SPDX-License-Identifier: Apache-2.0
"""What the tests of an instance's life put around the libvirt driver."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, BinaryIO

from nova_snap.context import RequestContext
from nova_snap.virt.driver import SpawnRequest
from nova_snap.virt.libvirt.driver import LibvirtDriver
from tests.fixtures.guest.disk import guest_disk
from tests.fixtures.libvirt_lab import LibvirtLab
from tests.functional import snapshot_parts as parts

READY = r"^nova-snap-guest: ready boot=(\d+) counter=(\d+)\r*$"
PIECE = 1 << 20


def nothing() -> None:
    """A check that never raises."""


class Stopped(Exception):
    """What a check raises."""


class Images(parts.FileImages):
    """Images that can be downloaded too; those that were uploaded become active.

    :ivar downloads: ids of the images that were asked for, in order.
    :ivar on_piece: called for each piece of a download.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.records: dict[str, dict[str, Any]] = {}
        self.downloads: list[str] = []
        self.on_piece: Callable[[], None] = nothing

    def add(
        self, path: Path, disk_format: str, image_id: str | None = None, **attributes: Any
    ) -> str:
        """Make an image of a file."""
        image_id = image_id or str(uuid.uuid4())
        (self.directory / image_id).symlink_to(path)
        self._record(image_id, disk_format, attributes)
        return image_id

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        return self.records.get(image_id) or super().get(context, image_id)

    def update(
        self,
        context: RequestContext,
        image_id: str,
        metadata: Mapping[str, Any],
        data: IO[bytes] | None = None,
        *rest: Any,
        **more: Any,
    ) -> Mapping[str, Any]:
        made = super().update(context, image_id, metadata, data, *rest, **more)
        if data is not None:
            self._record(image_id, made["disk_format"], made.get("properties", {}))
        return made

    def download(
        self,
        context: RequestContext,
        image_id: str,
        target: BinaryIO,
        check: Callable[[], None],
    ) -> int:
        self.downloads.append(image_id)
        target.seek(0)
        target.truncate()
        with (self.directory / image_id).open("rb") as source:
            while piece := source.read(PIECE):
                check()
                self.on_piece()
                target.write(piece)
        target.flush()
        return target.tell()

    def _record(self, image_id: str, disk_format: str, attributes: Mapping[str, Any]) -> None:
        self.records[image_id] = {
            "id": image_id,
            "name": f"image {image_id}",
            "status": "active",
            "size": (self.directory / image_id).stat().st_size,
            "disk_format": disk_format,
            "container_format": "bare",
            "hw_qemu_guest_agent": "yes",
            **attributes,
        }


class World(parts.World):
    """A driver that makes instances on the lab's libvirt, and nothing else does there."""

    def __init__(self, lab: LibvirtLab, directory: Path, instances: Path | None = None) -> None:
        super().__init__(lab, directory)
        self.instances = instances or lab.root / f"made-{uuid.uuid4().hex[:8]}"
        self.conf.set_override("instances_path", str(self.instances))
        self.images = Images(directory / f"images-{uuid.uuid4().hex[:8]}")
        self.driver = LibvirtDriver(self.conf, self.images, self.host)
        self._serial = 0

    def guest_image(self, disk_format: str = "raw", **properties: str) -> str:
        """An image that boots."""
        assert disk_format == "raw"
        return self.images.add(guest_disk().path, disk_format, **properties)

    def instance(self) -> parts.Instance:
        self._serial += 1
        return parts.Instance(
            str(uuid.uuid4()),
            f"instance-{self._serial:08x}",
            image_properties={"hw_qemu_guest_agent": "yes"},
        )

    def request(self, image_id: str, **changes: Any) -> SpawnRequest:
        values = {
            "vcpus": 1,
            "memory_mb": 192,
            "root_gb": 1,
            "network": "none",
            "display_name": "a <server> & more",
            "flavor_name": "m1.lab",
            "project_name": "demo",
            "user_name": "Demo",
            **changes,
        }
        return SpawnRequest(
            image_id=image_id, image_meta=self.images.get(self.context, image_id), **values
        )

    def spawn(
        self,
        image_id: str,
        instance: parts.Instance | None = None,
        check: Callable[[], None] = nothing,
        **changes: Any,
    ) -> Made:
        """Make an instance, and see that a failure leaves nothing of it."""
        instance = instance or self.instance()
        try:
            self.driver.spawn(self.context, instance, self.request(image_id, **changes), check)
        except Exception:
            self.assert_gone(instance)
            raise
        return Made(self, instance)

    def assert_gone(self, instance: parts.Instance) -> None:
        """Neither domain nor files are left of an instance, nor of a download."""
        assert instance.name not in self.lab.step("names")
        assert not (self.instances / instance.uuid).exists()
        assert not list(self.instances.glob("_base/*.part"))

    def cached(self) -> list[str]:
        """Names of the images in the cache."""
        with contextlib.suppress(FileNotFoundError):
            return sorted(os.listdir(self.instances / "_base"))
        return []


class Made:
    """An instance that was made."""

    def __init__(self, world: World, instance: parts.Instance) -> None:
        self.world = world
        self.instance = instance
        self.driver = world.driver
        self.disk = world.instances / instance.uuid / "disk"

    def state(self) -> int:
        return self.driver.get_info(self.instance).state

    def domain(self) -> Any:
        """As libvirt has it."""
        return self.world.lab.connect().lookupByUUIDString(self.instance.uuid)

    def wait_ready(self, timeout: float = 90) -> int:
        """Wait until its console says that it is up; returns its boot counter."""
        return int(until(lambda: re.findall(READY, self.console(), re.MULTILINE), timeout)[-1][0])

    def console(self) -> str:
        return self.driver.get_console_output(self.instance).decode()

    def run(self, command: str, timeout: float = 60) -> str:
        """Run a shell command in the guest, through its agent."""
        started = self._agent(
            "guest-exec", timeout, path="/bin/sh", arg=["-c", command], **{"capture-output": True}
        )
        done = until(
            lambda: (
                (a := self._agent("guest-exec-status", timeout, pid=started["pid"]))["exited"] and a
            ),
            timeout,
        )
        assert done["exitcode"] == 0, done
        return base64.b64decode(done.get("out-data", "")).decode().strip()

    def _agent(self, execute: str, timeout: float, **arguments: Any) -> Any:
        command = {"execute": execute, "arguments": arguments}

        def ask() -> Any:
            with contextlib.suppress(Exception):
                return self.world.lab.step(
                    "agent", name=self.instance.name, command=command, timeout=10
                )
            return None

        return until(ask, timeout)


def until(probe: Callable[[], Any], timeout: float = 30) -> Any:
    """Wait until ``probe`` returns something true."""
    deadline = time.monotonic() + timeout
    while True:
        found = probe()
        if found:
            return found
        assert time.monotonic() < deadline, f"not within {timeout} s; the last was {found!r}"
        time.sleep(0.1)


@contextlib.contextmanager
def open_world(lab: LibvirtLab, directory: Path) -> Iterator[World]:
    world = World(lab, directory)
    world.driver.init_host()
    try:
        yield world
    finally:
        world.driver.close()
