# SPDX-License-Identifier: Apache-2.0
"""What must be true after a process died and its successor has started. Each returns complaints."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.crash.scenarios import Scenario
from tests.crash.world import ROTATION, World, wait_until
from tests.fixtures import disk_image
from tests.fixtures.commands import run
from tests.fixtures.lab_guest import Guest

SOON = 30.0
# The reaper leaves alone what is younger: a request may be on its way.
REAPER_PATIENCE = 700.0
# Programs that live on.
_OF_THE_HOST = ("qemu-system", "libvirtd")


@dataclasses.dataclass(frozen=True)
class Before:
    """What a guest was before the snapshot, and was asked for."""

    state: str
    persistent: bool
    managed_save: bool
    xml: str
    actions: frozenset[str]

    @classmethod
    def of(cls, world: World, guest: Guest) -> Before:
        """As it is now."""
        state = world.ask("state", name=guest.name)
        return cls(
            state["state"], state["persistent"], state["managed_save"],
            world.ask("xml", name=guest.name, inactive=True),
            frozenset(action["request_id"] for action in world.actions(guest)),
        )  # fmt: skip


def all_of_them(
    world: World, scenario: Scenario, before: Before, image_id: str | None
) -> list[str]:
    """Everything but whether the next snapshot works.

    :param image_id: that the client was told of.
    """
    guest = world.guests[scenario.guest]
    problems = free(world, guest)
    problems += same_guest(world, guest, before)
    problems += sound_disks(world, scenario)
    problems += no_orphans(world)
    problems += reason(world, guest, before, image_id)
    problems += nothing_on_the_host(world)
    return problems


def free(world: World, guest: Guest, seconds: float = SOON) -> list[str]:
    """The instance waits for nothing, or not for longer than that."""
    seen: list[Any] = []

    def is_free() -> bool:
        seen.append(world.client.server(guest.uuid)["OS-EXT-STS:task_state"])
        return seen[-1] is None

    return [] if wait_until(is_free, seconds) else [f"task_state is {seen[-1]}"]


def same_guest(world: World, guest: Guest, before: Before, *, writes: bool = True) -> list[str]:
    """The guest is in the state that it was in, thawed, persistent and without a job.

    :param writes: its writer goes on, if it runs.
    """
    state = world.ask("state", name=guest.name)
    problems = [
        f"{name} is {state[name]!r}, and was {getattr(before, name)!r}"
        for name in ("state", "persistent", "managed_save")
        if state[name] != getattr(before, name)
    ]
    if state["job"] or state["block_jobs"]:
        problems.append(f"a job runs: {state['job']}, {state['block_jobs']}")
    if not state["persistent"]:
        return problems
    if world.ask("xml", name=guest.name, inactive=True) != before.xml:
        problems.append("its definition has changed")
    if (backup := world.ask("backup", name=guest.name)) is not None:
        problems.append(f"a backup job runs: {backup}")
    if state["active"] and "<mirror" in world.ask("xml", name=guest.name, inactive=False):
        problems.append("a disk has a mirror")
    if state["state"] == "running":
        problems += thawed(world, guest) or (at_work(guest) if writes else [])
    return problems


def thawed(world: World, guest: Guest) -> list[str]:
    """Its agent says so."""
    said: list[Any] = []

    def is_thawed() -> bool:
        try:
            command = {"execute": "guest-fsfreeze-status"}
            said.append(world.ask("agent", name=guest.name, command=command, timeout=5))
        except RuntimeError as exc:
            # It comes back a moment after the guest's memory was restored.
            said.append(exc)
        return bool(said[-1] == "thawed")

    return [] if wait_until(is_thawed, SOON) else [f"its agent says {said[-1]}"]


def at_work(guest: Guest) -> list[str]:
    """Its writer goes on."""
    counter = guest.counter()
    if not wait_until(lambda: guest.counter() > counter, SOON):
        return [f"its writer stays at {counter}"]
    return []


def sound_disks(world: World, scenario: Scenario) -> list[str]:
    """``qemu-img check`` of every disk."""
    guest = world.guests[scenario.guest]
    share = ["-U"] if world.ask("state", name=guest.name)["active"] else []
    problems = []
    with held(world, guest):
        for target, path in world.disks(scenario.guest).items():
            done = run("qemu-img", "check", *share, "-f", "qcow2", path, ok=range(256))
            if done.returncode:
                said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
                problems.append(f"qemu-img check of {target}: {said}")
    return problems


@contextlib.contextmanager
def held(world: World, guest: Guest) -> Iterator[None]:
    """Pause a guest that runs: QEMU then has written down all that it knows of its disks."""
    runs = world.ask("state", name=guest.name)["state"] == "running"
    if runs:
        world.ask("suspend", name=guest.name)
    try:
        yield
    finally:
        if runs:
            world.ask("resume", name=guest.name)


def no_orphans(world: World) -> list[str]:
    """No image that is none, and nothing in the journal. What an API process died over before it
    could ask the host is the reaper's, once it is old enough."""

    def unfinished() -> list[str]:
        return [
            f"image {i['id']} is {i['status']}" for i in world.images() if i["status"] != "active"
        ]

    def nothing() -> bool:
        return not unfinished() and not world.requests_left()

    if not wait_until(nothing, 2):
        world.age_requests(REAPER_PATIENCE)
        wait_until(nothing, SOON)
    left = [f"the journal has {row}" for row in world.requests_left()]
    return unfinished() + left


def reason(world: World, guest: Guest, before: Before, image_id: str | None) -> list[str]:
    """Who asked finds out what became of it."""
    new = [each for each in world.actions(guest) if each["request_id"] not in before.actions]
    if not new:
        return [] if image_id is None else ["the request was accepted, and there is no action"]
    if len(new) > 1:
        return [f"one request has {len(new)} actions"]
    return ended(world, guest, new[0]["request_id"], image_id)


def ended(world: World, guest: Guest, request_id: str, image_id: str | None) -> list[str]:
    """The action of a request is over, in all its steps, and without an image it says why.

    :param image_id: ``None`` if nobody was told of one.
    """
    path = f"/servers/{guest.uuid}/os-instance-actions/{request_id}"
    action = world.client.get(path).json()["instanceAction"]
    problems = [
        f"event {event['event']} has not ended"
        for event in action["events"]
        if event["finish_time"] is None
    ]
    if image_id is None:
        return problems
    active = [i for i in world.images(id=image_id) if i["status"] == "active"]
    if not active and not action["message"]:
        problems.append("there is no image, and no reason why")
    return problems


def nothing_on_the_host(world: World) -> list[str]:
    """No file, socket or process."""
    problems = [f"left: {entry} ({', '.join(_names(entry))})" for entry in _entries(world)]
    wait_until(lambda: not _strays(world), 5)
    return problems + [f"process {pid} is left: {words}" for pid, words in _strays(world)]


def sweep(world: World) -> None:
    """Remove what was left and reported, so that it is not reported once more."""
    for entry in _entries(world):
        shutil.rmtree(entry)
    for pid, _words in _strays(world):
        os.kill(pid, signal.SIGKILL)


def _entries(world: World) -> list[Path]:
    places = (world.snapshots, world.sockets)
    return [entry for place in places if place.exists() for entry in place.iterdir()]


def _names(entry: Path) -> Sequence[str]:
    return sorted(os.listdir(entry)) if entry.is_dir() else []


def _strays(world: World) -> list[tuple[int, str]]:
    """Processes about this host that are neither guests nor the services."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
            if str(world.lab.root) in words and not any(name in words for name in _OF_THE_HOST):
                found.append((int(entry.name), words))
    return found


def image(world: World, scenario: Scenario, image_id: str, *, inside: bool) -> list[str]:
    """A snapshot that is said to be good: is it?

    :param inside: look into an image of a guest that writes, which takes seconds.
    """
    guest = world.guests[scenario.guest]
    found = world.images(id=image_id)
    if not found or found[0]["status"] != "active":
        action = world.actions(guest)[0]
        return [f"the next snapshot gave no image: {action['message']}"]
    parts = {"vda": found[0]}
    if scenario.all_disks:
        whole = world.images(nova_snap_set=image_id)
        parts = {each["nova_snap_disk"]: each for each in whole}
    disks = world.disks(scenario.guest)
    if scenario.all_disks and set(parts) != set(disks):
        return [f"there are images of {sorted(parts)} only"]
    problems = []
    for target, record in parts.items():
        path = world.directory / f"image-{target}"
        world.download(record["id"], path)
        if said := disk_image.check(path, "qcow2"):
            problems.append(f"the image of {target}: {said}")
        elif scenario.guest != "writer":
            said = disk_image.differences(
                path, "qcow2", disks[target], "qcow2", shared=scenario.guest != "off"
            )
            problems += [f"the image of {target}: {said}"] if said else []
        elif inside:
            problems += of_one_instant(path)
    return problems


def of_one_instant(path: Path, since: int = 0, until: float = math.inf) -> list[str]:
    """What an image of a guest that writes holds that no instant can have seen.

    :param since: what the guest's counter was before the snapshot; ``until`` what it was after it.
    """
    with disk_image.raw_view(path, "qcow2") as view:
        system, writer = view.fsck(), view.writer_state()
    problems = list(writer.problems)
    if not since <= writer.counter <= until:
        problems.append(f"the image's counter is {writer.counter}, not in {since}..{until}")
    if not system.consistent:
        problems.append(f"the image's file system is {system.damage}")
    return problems


def rotated(world: World, scenario: Scenario) -> list[str]:
    """Of the backups, the newest are there."""
    if not scenario.backup:
        return []
    count = len(world.images(image_type="backup"))
    return [] if count <= ROTATION else [f"{count} backups are left, not {ROTATION}"]
