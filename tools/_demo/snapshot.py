# SPDX-License-Identifier: Apache-2.0
"""One snapshot: asked for with the openstack client, and watched while it is taken."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import sqlite3
import time
from pathlib import Path

import requests

from tools._common.errors import TookTooLong
from tools._common.screen import Screen, mib
from tools._demo.errors import CheckFailed, ServiceLost, SnapshotFailed
from tools._demo.openstack import Client
from tools._demo.stage import PROJECT, SERVER, USER, Stage

SNAPSHOT_SECONDS = 300
API_SECONDS = 15
RECORD_SECONDS = 30
POLL_SECONDS = 0.1
HEADERS = {"X-Auth-Token": f"{USER}:{PROJECT}", "OpenStack-API-Version": "compute 2.96"}

# The newest step of an action; its details begin with the method and a colon.
EVENT = """
SELECT event.result, event.details, action.start_time, event.finish_time
FROM instance_actions_events AS event
JOIN instance_actions AS action ON action.id = event.action_id
ORDER BY event.id DESC LIMIT 1
"""


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """A snapshot that was taken.

    :ivar size: of the image, in bytes.
    :ivar seconds: from the request to the end, by the service's own record.
    :ivar method: how it was taken.
    :ivar temporary: most bytes that were seen in use on the host for it.
    """

    name: str
    image_id: str
    image_format: str
    size: int
    seconds: float
    method: str
    temporary: int


def take(stage: Stage, client: Client, screen: Screen, server_id: str, name: str) -> Snapshot:
    """Take one, and show what the server says of itself meanwhile.

    :raises CommandRefused: if the request is refused.
    :raises SnapshotFailed: if no image comes of it.
    :raises CheckFailed: if it leaves something behind on the host.
    :raises TookTooLong: if it does not end.
    """
    watch = _Watch(stage, screen, server_id)
    command = client.start("server", "image", "create", "--name", name, "-f", "json", SERVER)
    while command.running:
        watch.look()
        time.sleep(POLL_SECONDS)
    image_id = command.json()["id"]
    while watch.look() is not None:
        time.sleep(POLL_SECONDS)
    details, seconds = _recorded(stage.state_path, name)
    screen.say(f"    {seconds:5.1f} s  from the request to the active image")
    image = client.start("image", "show", "-f", "json", image_id).json()
    if image["status"] != "active":
        raise SnapshotFailed(name, f"its image is {image['status']}")
    if left := disk_usage(stage.state_path / "snapshots"):
        raise CheckFailed("no temporary file is left", f"{left} bytes")
    return Snapshot(
        name, image_id, image["disk_format"], image["size"], seconds, details.partition(":")[0],
        watch.most_temporary,
    )  # fmt: skip


class _Watch:
    """Looks at the server again and again, and shows what has changed."""

    def __init__(self, stage: Stage, screen: Screen, server_id: str) -> None:
        self.most_temporary = 0
        self._url = f"{stage.url}/v2.1/servers/{server_id}"
        self._temporary = stage.state_path / "snapshots"
        self._images = stage.glance.data_dir / "images"
        self._had = disk_usage(self._images)
        self._screen = screen
        self._state = ""
        self._percent = 0
        self._began: float | None = None

    def look(self) -> str | None:
        """:returns: the server's task_state.

        :raises ServiceLost: if the API cannot be asked.
        """
        try:
            answer = requests.get(self._url, headers=HEADERS, timeout=API_SECONDS)
            answer.raise_for_status()
        except requests.RequestException as error:
            raise ServiceLost("nova-snap-all", str(error)) from error
        server = answer.json()["server"]
        state: str | None = server["OS-EXT-STS:task_state"]
        temporary = disk_usage(self._temporary)
        self.most_temporary = max(self.most_temporary, temporary)
        if state is not None:
            self._began = self._began or time.monotonic()
            # A server that is off has none before its image is being sent, as in Nova.
            self._show(state, server.get("progress", 0), temporary)
        return state

    def _show(self, state: str, percent: int, temporary: int) -> None:
        seconds = time.monotonic() - (self._began or 0)
        arrived = disk_usage(self._images) - self._had
        line = (
            f"    {seconds:5.1f} s  {state:22} {percent:3} %"
            f"  temporary {mib(temporary)}, Glance {mib(arrived)}"
        )
        if state != self._state:
            self._screen.say(line)
        else:
            self._screen.live(line, news=percent != self._percent)
        self._state, self._percent = state, percent
        if seconds > SNAPSHOT_SECONDS:
            raise TookTooLong("the snapshot", SNAPSHOT_SECONDS, f"task_state {state}")


def disk_usage(directory: Path) -> int:
    """Bytes in use by what is in a directory, while others write and delete them."""
    total = 0
    for place, directories, files in os.walk(directory):
        for name in (*directories, *files):
            with contextlib.suppress(FileNotFoundError):
                total += os.lstat(os.path.join(place, name)).st_blocks * 512
    return total


def _recorded(state_path: Path, name: str) -> tuple[str, float]:
    """What nova_snap has on record of its newest action: how it was done, and how long it took.

    :raises SnapshotFailed: if it was not done.
    :raises TookTooLong: if there is no end of it on record.
    """
    (database,) = state_path.glob("*.sqlite")
    until = time.monotonic() + RECORD_SECONDS
    with contextlib.closing(sqlite3.connect(f"{database.as_uri()}?mode=ro", uri=True)) as records:
        while True:
            result, details, began, ended = records.execute(EVENT).fetchone()
            if ended is not None:
                break
            if time.monotonic() > until:
                raise TookTooLong("the end of the action", RECORD_SECONDS, str(details))
            time.sleep(POLL_SECONDS)
    if result != "Success":
        raise SnapshotFailed(name, details)
    return details, (_time(ended) - _time(began)).total_seconds()


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
