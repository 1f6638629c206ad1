# SPDX-License-Identifier: Apache-2.0
"""The demonstration, from the first service to the table."""

from __future__ import annotations

import time
from pathlib import Path

from tests.fixtures import disk_image
from tests.fixtures.disk_image import RawView
from tests.fixtures.lab_guest import Guest
from tools._common.home import Home
from tools._common.ports import Ports
from tools._common.screen import Row, Screen, mib
from tools._demo import bare_upload, snapshot
from tools._demo.errors import CheckFailed
from tools._demo.openstack import Client
from tools._demo.snapshot import Snapshot
from tools._demo.stage import SERVER, Stage

RUNNING, SHUT_OFF = "demo-running", "demo-shut-off"


class Scenario:
    """One run. What fails raises; ending it all is the caller's part."""

    def __init__(self, home: Home, ports: Ports, screen: Screen) -> None:
        self.stage = Stage(home, ports)
        self._home = home
        self._screen = screen
        self._client = Client(home.clouds)
        self._rows: list[Row] = []

    def run(self) -> Guest:
        """Everything that is shown, but for the end.

        :returns: the guest, shut off.
        :raises CheckFailed: if what came out is not what should have.
        """
        began = time.monotonic()
        self._screen.say("Starting")
        guest, boots = self._set_up()
        self._screen.say("Snapshot of the running guest")
        running, counter = self._of_running(guest)
        self._screen.say("Snapshot of the guest shut off")
        self._of_shut_off(guest)
        self._screen.say("A new guest from the first image")
        self._boot_from(running, boots, counter)
        self._screen.say()
        self._screen.table(self._rows)
        self._screen.say()
        self._screen.say(f"All checks passed. It took {time.monotonic() - began:.0f} s.")
        return guest

    def restart(self, guest: Guest) -> None:
        """Have the guest run and write again, which was shut off. The downloads go."""
        for name in (RUNNING, SHUT_OFF):
            (self._home.path / name).unlink()
        with self._screen.step("the guest boots again") as step:
            self.stage.service.stop()
            step.result = f"boot {self.stage.boot(guest)[0]}, it goes on writing"
            self.stage.start_service()

    # -- the parts -------------------------------------------------------------------------

    def _set_up(self) -> tuple[Guest, int]:
        """:returns: the guest, which writes all the time, and how often it has booted."""
        stage = self.stage
        with self._screen.step("Glance") as step:
            stage.glance.start()
            image_id = stage.upload_base_image()
            step.result = stage.glance.url
        with self._screen.step("a guest, which writes all the time") as step:
            guest = stage.define_guest(image_id)
            boots, _ = stage.boot(guest)
            guest.start_writer()
            step.result = f"boot {boots}"
        self._rows.append(Row("guest boots", f"boot {boots}, writes all the time", step.seconds))
        with self._screen.step("nova-snap-all, which adopts the guest") as step:
            stage.configure()
            stage.adopt()
            stage.start_service()
            step.result = stage.url
        self.stage.write_clouds(self._home.clouds)
        with self._screen.step("openstack server list") as step:
            step.result = self._client.run("server", "list", "-f", "value").strip()
        return guest, boots

    def _of_running(self, guest: Guest) -> tuple[Path, int]:
        """:returns: the image's file, and the counter that the guest's writer has in it."""
        before = guest.counter()
        taken = self._take(guest, RUNNING)
        after = guest.counter()
        path = self._download(taken)
        with self._screen.step("its content against the guest") as step:
            with disk_image.raw_view(path, taken.image_format, directory=self._home.path) as view:
                state, counter = _point_in_time(view)
            if not before <= counter <= after:
                raise CheckFailed(
                    "the image is of an instant between the request and its end",
                    f"the guest counted {before} before and {after} after, the image has {counter}",
                )
            step.result = f"{state}, {before} <= counter {counter} <= {after}"
        self._rows.append(Row("  file system in it", f"{state}, one instant of the guest"))
        self._rows.append(Row("  counter before, in it, after", f"{before}, {counter}, {after}"))
        return path, counter

    def _of_shut_off(self, guest: Guest) -> None:
        with self._screen.step("the guest shuts itself down"):
            self.stage.power_off(guest)
        taken = self._take(guest, SHUT_OFF)
        path = self._download(taken)
        with self._screen.step("its content against the guest's disk") as step:
            found = disk_image.differences(path, taken.image_format, guest.disk_path, "qcow2")
            if found:
                raise CheckFailed("the image is what the guest's disk is", found)
            compared = disk_image.virtual_size(path, taken.image_format)
            step.result = f"{mib(compared)} are the same, byte for byte"
        self._rows.append(
            Row("  compared with the disk", "the same, byte for byte", step.seconds, compared)
        )

    def _boot_from(self, image: Path, boots: int, counter: int) -> None:
        with self._screen.step("it boots") as step:
            with self.stage.guest_from(image, "qcow2") as guest:
                booted, counted = self.stage.boot(guest)
                line = f"boot={booted} counter={counted}"
            step.result = f"its console: {line}"
        if booted != boots + 1:
            raise CheckFailed("the new guest boots once more than the old", line)
        if counted < counter:
            raise CheckFailed(f"the new guest counts on from {counter}", line)
        self._rows.append(
            Row(f"new guest boots from {RUNNING}", f"boot {booted}, counter {counted}",
                step.seconds)
        )  # fmt: skip

    # -- in all snapshots ------------------------------------------------------------------

    def _take(self, guest: Guest, name: str) -> Snapshot:
        self._screen.say(f"  openstack server image create --name {name} {SERVER}")
        taken = snapshot.take(self.stage, self._client, self._screen, guest.uuid, name)
        what = f"snapshot {name}"
        result = f"image active, method {taken.method}"
        self._rows.append(Row(what, result, taken.seconds, taken.size))
        self._rows.append(
            Row("  temporary space, at most", "on this host, none is left", None, taken.temporary)
        )
        return taken

    def _download(self, taken: Snapshot) -> Path:
        path = self._home.path / taken.name
        with self._screen.step("openstack image save") as step:
            self._client.run("image", "save", "--file", path, taken.image_id)
            if path.stat().st_size != taken.size:
                raise CheckFailed(
                    f"{taken.name} is {taken.size} bytes long", f"{path.stat().st_size} came"
                )
            step.result = mib(taken.size)
        with self._screen.step("a bare upload of the same bytes") as bare:
            seconds = bare_upload.measure(self.stage.glance.url, path, taken.image_format)
            ratio = f"the snapshot took {taken.seconds / seconds:.1f} times as long"
            bare.result = f"{seconds:.1f} s, {ratio}"
        with self._screen.step("qemu-img check") as check:
            found = disk_image.check(path, taken.image_format)
            if found:
                raise CheckFailed(f"{taken.name} is a whole {taken.image_format} image", found)
            check.result = f"{taken.image_format}, no errors"
        self._rows.append(Row("  a bare upload of it", ratio, seconds, taken.size))
        self._rows.append(
            Row("  downloaded", "qemu-img check: no errors", step.seconds, taken.size)
        )
        return path


def _point_in_time(view: RawView) -> tuple[str, int]:
    """Check that the guest's file system in an image is of one instant.

    :returns: the file system's state, and how often the guest's writer had written.
    :raises CheckFailed: if it is not.
    """
    found = view.fsck()
    if not found.consistent:
        raise CheckFailed("the file system is consistent", found.report)
    writer = view.writer_state()
    if writer.problems:
        raise CheckFailed("the image is of one instant", "; ".join(writer.problems))
    return f"ext4 {found.state}", writer.counter
