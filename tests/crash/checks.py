# SPDX-License-Identifier: Apache-2.0
"""What must be true after a process died and its successor has started. Each returns complaints."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.crash import victim
from tests.crash.scenarios import Scenario
from tests.crash.world import ROTATION, World, wait_until
from tests.fixtures import disk_image
from tests.fixtures.commands import run
from tests.fixtures.lab_guest import Guest

SOON = 30.0
# The reaper leaves alone what is younger: a request may be on its way.
REAPER_PATIENCE = 700.0
# Programs that live on: what libvirt needs to be one of its own, until it is one; and the guests.
_DAEMON = ("libvirtd",)
_GUEST = "qemu-system"
# What services and libvirt start: of what reads disks the environment is not a service's.
_PROGRAMS = ("qemu-nbd", "qemu-img", "prlimit", "setpriv", "rbd", "lvs", "libvirt_iohelper")


@dataclasses.dataclass(frozen=True)
class Before:
    """What a guest was before the snapshot, and was asked for."""

    state: str
    persistent: bool
    managed_save: bool
    xml: str
    actions: frozenset[str]
    backups: tuple[str, ...]

    @classmethod
    def of(cls, world: World, guest: Guest) -> Before:
        """As it is now."""
        state = world.ask("state", name=guest.name)
        return cls(
            state["state"], state["persistent"], state["managed_save"],
            world.ask("xml", name=guest.name, inactive=True),
            frozenset(action["request_id"] for action in world.actions(guest)),
            tuple(world.backups()),
        )  # fmt: skip


def all_of_them(
    world: World, scenario: Scenario, before: Before, name: str, image_id: str | None
) -> list[str]:
    """Everything but the image's bytes, and whether the next snapshot works.

    :param name: of the image that was asked for; ``image_id`` is what the client was told of.
    """
    guest = world.guests[scenario.guest]
    problems = free(world, guest)
    problems += same_guest(world, guest, before)
    problems += sound_disks(world, scenario)
    problems += no_orphans(world)
    problems += reason(world, scenario, before, name, image_id)
    problems += kept(world, before)
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


def new_actions(world: World, guest: Guest, before: Before) -> list[dict[str, Any]]:
    """What was asked of a guest since then."""
    return [each for each in world.actions(guest) if each["request_id"] not in before.actions]


def reason(
    world: World, scenario: Scenario, before: Before, name: str, image_id: str | None
) -> list[str]:
    """Who asked finds out what became of it, whether he got an answer or not."""
    guest = world.guests[scenario.guest]
    new = new_actions(world, guest, before)
    if len(new) > 1:
        return [f"one request has {len(new)} actions"]
    if new:
        return ended(world, scenario, new[0]["request_id"], name, image_id)
    problems = [] if image_id is None else ["the request was accepted, and there is no action"]
    return problems + [f"there is image {i['id']}, and no action" for i in images_of(world, name)]


def images_of(world: World, name: str) -> list[dict[str, Any]]:
    """What a request has become: of a set, its first image, which alone has this name."""
    return [image for image in world.images(name=name) if image["status"] == "active"]


def ended(
    world: World, scenario: Scenario, request_id: str, name: str, image_id: str | None
) -> list[str]:
    """The action of a request is over, in all its steps, and there is one image or the reason why
    there is none.

    :param name: that the image has; ``image_id``: ``None`` if nobody was told of one.
    """
    problems = steps_ended(world, world.guests[scenario.guest], request_id)
    found = images_of(world, name)
    said = message(world, world.guests[scenario.guest], request_id)
    if len(found) > 1:
        problems.append(f"it has become {len(found)} images")
    if image_id is not None and found and found[0]["id"] != image_id:
        problems.append(f"it was to be image {image_id}, and is {found[0]['id']}")
    if not found and not said:
        problems.append("there is no image, and no reason why")
    # A backup may be good, and those before it not rotated.
    if found and said and not scenario.backup:
        problems.append(f"image {found[0]['id']} is there, and yet: {said}")
    return problems


def message(world: World, guest: Guest, request_id: str) -> str | None:
    """Why there is no image, as the owner reads it."""
    said: str | None = _action(world, guest, request_id)["message"]
    return said


def steps_ended(world: World, guest: Guest, request_id: str) -> list[str]:
    """All steps of an action are over."""
    return [
        f"event {event['event']} has not ended"
        for event in _action(world, guest, request_id)["events"]
        if event["finish_time"] is None
    ]


def _action(world: World, guest: Guest, request_id: str) -> dict[str, Any]:
    path = f"/servers/{guest.uuid}/os-instance-actions/{request_id}"
    answer = world.client.get(path)
    answer.raise_for_status()
    found: dict[str, Any] = answer.json()["instanceAction"]
    return found


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
    """Processes about this host that are neither the services, nor libvirt's daemon, nor the one
    QEMU of a guest that runs. Whatever else has its name, such as an editor, is somebody's own."""
    root, strays, guests = str(world.lab.root), [], {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            raw = (entry / "cmdline").read_bytes().decode("utf-8", "replace")
            program, words = os.path.basename(raw.partition("\0")[0]), raw.replace("\0", " ")
            if root not in words or program in _DAEMON:
                continue
            if program.startswith(_GUEST):
                guests[int(entry.name)] = words
            elif program in _PROGRAMS or _of_a_service(entry, root):
                strays.append((int(entry.name), words))
    known = set()
    for path in (world.lab.root / "run/qemu").glob("*.pid"):
        # It is being written, or is gone again.
        with contextlib.suppress(OSError, ValueError):
            known.add(int(path.read_text()))
    return strays + [(pid, words) for pid, words in guests.items() if pid not in known]


def _of_a_service(entry: Path, root: str) -> bool:
    """Whether a process has the environment of a service of this host.

    :param entry: of ``/proc``.
    """
    variables = (entry / "environ").read_bytes().decode("utf-8", "replace").split("\0")
    return any(each.startswith(f"{victim.DIRECTORY_ENV}={root}") for each in variables)


def image(
    world: World, scenario: Scenario, image_id: str, since: int | None, *, inside: bool
) -> list[str]:
    """A snapshot that is said to be good, and has ended: is it?

    :param since: :meth:`World.counter` from before it was asked for.
    :param inside: look into an image of a guest that writes, which takes seconds.
    """
    until = world.counter(scenario.guest)
    guest = world.guests[scenario.guest]
    found = world.images(id=image_id)
    if not found or found[0]["status"] != "active":
        action = world.actions(guest)[0]
        return [f"the snapshot gave no image: {action['message']}"]
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
        elif inside and since is not None and until is not None:
            problems += of_one_instant(path, since, until)
        elif inside:
            problems.append(f"the guest's counter was {since}, and is {until}")
    return problems


def made_by(world: World, scenario: Scenario, image_id: str) -> list[str]:
    """The image was made by the method that the scenario expects, as the service's log says."""
    if f"to image {image_id} is done: method {scenario.method}," in world.log():
        return []
    return [f"image {image_id} was not made by method {scenario.method}"]


def of_one_instant(path: Path, since: int, until: int) -> list[str]:
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


def kept(world: World, before: Before) -> list[str]:
    """None of the newest backups is lost, however the rotation was interrupted: a new one that is
    whole is the newest."""
    found = world.backups()
    new = [backup for backup in found if backup not in before.backups]
    newest = [*before.backups, *new][-ROTATION:]
    return [f"backup {backup} is lost" for backup in newest if backup not in found]


def rotated(world: World, scenario: Scenario, before: Sequence[str], image_id: str) -> list[str]:
    """Of the backups exactly the newest are there, when one that was asked for has ended.

    :param before: :meth:`World.backups` from before it was asked for.
    :param image_id: what it has become.
    """
    made = [*before, image_id] if scenario.backup else before
    wanted, found = list(made[-ROTATION:] if scenario.backup else made), world.backups()
    return [] if found == wanted else [f"backups {found} are left, and not {wanted}"]
