# SPDX-License-Identifier: Apache-2.0
"""Eight real guests asked for at once: ``python -m tests.load.real_guests``.

Guests that write, guests that hold still and guests that are paused, of two projects, and fewer
places than guests: some have to wait for theirs, in sight and in turn.
"""

from __future__ import annotations

import functools
import re
import shutil
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import requests
from prometheus_client import parser

import nova_snap.cmd  # noqa: F401  it chooses oslo.service's backend
from nova_snap.compute import snapshot_queue
from tests.crash import checks, world
from tests.crash.checks import Before
from tests.crash.scenarios import Scenario
from tests.fixtures import disk_image
from tests.fixtures.deployment import Client
from tests.fixtures.service_process import ServiceProcess
from tests.fixtures.warden import Warden

State = Literal["writes", "still", "paused"]

FIRST, SECOND = "shop", "mill"
GUESTS: dict[str, tuple[State, str]] = {
    **{f"writer{number}": ("writes", FIRST) for number in range(4)},
    **{f"still{number}": ("still", FIRST) for number in range(2)},
    **{f"paused{number}": ("paused", SECOND) for number in range(2)},
}
"""What they do, and whose they are."""

PLACES = 4
# MiB/s: long enough that all have asked before the first is done.
_BANDWIDTH = 8
_BOOT_SECONDS = 300.0
_END_SECONDS = 300.0
_POLL_SECONDS = 0.1


class World(world.World):
    """The host of the crash matrix, with these guests and a service that is not to be killed."""

    program: ClassVar[str] = "tests.soak.service"

    def settings(self, scenario: Scenario) -> dict[str, dict[str, Any]]:
        """The configuration."""
        settings = super().settings(scenario)
        settings["DEFAULT"]["max_concurrent_snapshots"] = PLACES
        settings["libvirt"]["snapshot_bandwidth"] = _BANDWIDTH
        settings["api"] = {"metrics_enabled": True}
        return settings

    def make_guests(self) -> None:
        """Boot them side by side, and bring them into their states."""
        for name, (state, project) in GUESTS.items():
            agent = {"hw_qemu_guest_agent": "yes"} if state == "writes" else {}
            base = self.glance.client(world.USER, project).images.create(name=name, **agent)
            self.guests[name] = self.define(name, base["id"], project)
            self.guests[name].start()
        for name, (state, _project) in GUESTS.items():
            guest = self.guests[name]
            guest.wait_ready(_BOOT_SECONDS)
            if state == "writes":
                guest.wait_agent(_BOOT_SECONDS)
                guest.start_writer()
            elif state == "still":
                guest.hold_still()
            else:
                guest.suspend()

    @property
    def client(self) -> Client:
        """Somebody who may look at all of them."""
        assert self.deployment is not None
        return self.deployment.client("admin", FIRST)

    def owner(self, name: str) -> Client:
        """The API as the owner of a guest sees it."""
        assert self.deployment is not None
        return self.deployment.client(world.USER, GUESTS[name][1])


@dataclass
class Watch:
    """Looks at the service while it is at work.

    :ivar running: the most snapshots that were seen at work at once; ``queued``: that waited.
    :ivar seconds: what the API took to answer, each time.
    """

    world: World
    running: int = 0
    queued: int = 0
    seconds: list[float] = field(default_factory=list)
    free: bool = False

    def until_free(self) -> None:
        """Until no guest is busy any more, or time is up: see ``free``."""
        deadline = time.monotonic() + _END_SECONDS
        while not self.free and time.monotonic() < deadline:
            self._count()
            self.free = all(self._state(name) is None for name in GUESTS)
            time.sleep(_POLL_SECONDS)

    def _state(self, name: str) -> str | None:
        began = time.monotonic()
        server = self.world.owner(name).server(self.world.guests[name].uuid)
        self.seconds.append(time.monotonic() - began)
        state: str | None = server["OS-EXT-STS:task_state"]
        return state

    def _count(self) -> None:
        assert self.world.deployment is not None
        answer = requests.get(f"{self.world.deployment.url}/metrics", timeout=60)
        answer.raise_for_status()
        found = {"running": 0, "queued": 0}
        for family in parser.text_string_to_metric_families(answer.text):
            if family.name == "nova_snap_snapshots":
                for sample in family.samples:
                    phase = sample.labels["phase"]
                    found[phase] = found.get(phase, 0) + int(sample.value)
        self.running = max(self.running, found["running"])
        self.queued = max(self.queued, found["queued"])


def run(say: Callable[[str], None]) -> int:
    """Take the snapshots, and look at them.

    :param say: is told what was found, line by line.
    :returns: how much was not as it must be.
    """
    directory = Path(tempfile.mkdtemp(prefix="ns-eight-"))
    with World(directory) as host:
        began = time.monotonic()
        problems = _snapshots(host, say)
        log = host.log()
    for problem in problems:
        say(f"  {problem}")
    seconds = time.monotonic() - began
    say(f"{len(GUESTS)} real guests at once: {len(problems)} problems, {seconds:.0f} s")
    if problems:
        (directory / "service.log").write_text(log)
        say(f"The logs are in {directory}")
    else:
        shutil.rmtree(directory)
    return len(problems)


def _snapshots(host: World, say: Callable[[str], None]) -> list[str]:
    host.configure(Scenario("at-once", "writer", "stream", {"snapshot_compression": "none"}))
    host.start()
    before = {name: Before.of(host, guest) for name, guest in host.guests.items()}
    counters = _counters(host)
    watch = Watch(host)
    began = time.monotonic()
    image_ids = _ask_at_once(host)
    asked = time.monotonic() - began
    watch.until_free()
    ended = time.monotonic() - began
    say(
        f"  asked within {asked:.2f} s, all done after {ended:.1f} s; at most {watch.running} ran "
        f"and {watch.queued} waited at once"
    )
    slowest, median = max(watch.seconds), statistics.median(watch.seconds)
    say(
        f"  {len(watch.seconds)} GETs meanwhile: median {median * 1000:.0f} ms, the slowest "
        f"{slowest * 1000:.0f} ms"
    )
    problems = list(_queue(host, watch))
    for name, image_id in image_ids.items():
        span = (counters[name], host.guests[name].counter()) if name in counters else None
        found = list(_judge(host, name, before[name], image_id, span))
        say(f"  {name} ({GUESTS[name][0]}): {'; '.join(found) or 'good'}")
        problems += [f"{name}: {problem}" for problem in found]
    problems += _nothing_left(host, set(image_ids.values()))
    return problems


def _counters(host: World) -> dict[str, int]:
    """How often each guest that writes has written."""
    return {
        name: host.guests[name].counter()
        for name, (state, _project) in GUESTS.items()
        if state == "writes"
    }


def _ask_at_once(host: World) -> dict[str, str]:
    """:returns: the images that were promised, by guest."""
    together = threading.Barrier(len(GUESTS))

    def ask(name: str) -> str:
        together.wait(60)
        return host.owner(name).create_image(host.guests[name].uuid, f"image of {name}")

    with ThreadPoolExecutor(len(GUESTS)) as pool:
        return dict(zip(GUESTS, pool.map(ask, GUESTS), strict=True))


# -- what must be true -------------------------------------------------------------------------


def _queue(host: World, watch: Watch) -> Iterator[str]:
    """Places were all taken, and never more; who waited can see it; the other project had its
    turn before the last of the first one."""
    if not watch.free:
        yield f"not all snapshots have ended after {_END_SECONDS:g} s"
    if watch.running != PLACES or not 1 <= watch.queued <= len(GUESTS) - PLACES:
        yield f"{watch.running} ran and {watch.queued} waited at once, with {PLACES} places"
    waited = [name for name in GUESTS if _queued_event(host, name)]
    if len(waited) != len(GUESTS) - PLACES:
        yield f"the actions of {waited} say that they waited"
    begun = re.findall(r"Snapshot of instance (\S+) \(.*\) to image \S+ begins", host.log())
    owners = {host.guests[name].uuid: project for name, (_state, project) in GUESTS.items()}
    order = [owners[uuid] for uuid in begun]
    if len(order) != len(GUESTS) or SECOND in order[-2:]:
        yield f"the projects had their turns in this order: {' '.join(order)}"


def _queued_event(host: World, name: str) -> bool:
    """Whether the server's action says that its snapshot waited, and waits no more."""
    client, path = host.owner(name), f"/servers/{host.guests[name].uuid}/os-instance-actions"
    (action,) = client.get(path).json()["instanceActions"]
    found = client.get(f"{path}/{action['request_id']}").json()["instanceAction"]
    return any(
        event["event"] == snapshot_queue.EVENT and event["finish_time"] is not None
        for event in found["events"]
    )


def _judge(
    host: World, name: str, before: Before, image_id: str, span: tuple[int, int] | None
) -> Iterator[str]:
    """A guest and its image.

    :param span: of the guest's counter, around the snapshot; ``None`` if it writes nothing.
    """
    guest = host.guests[name]
    yield from checks.same_guest(host, guest, before, writes=span is not None)
    records = host.images(id=image_id)
    if not records or records[0]["status"] != "active":
        yield f"image {image_id} is {records[0]['status'] if records else 'gone'}"
        return
    path = host.directory / f"image-{name}"
    host.download(image_id, path)
    if said := disk_image.check(path, "qcow2"):
        yield f"its image: {said}"
    elif span is not None:
        yield from checks.of_one_instant(path, *span)
    else:
        with checks.held(host, guest):
            said = disk_image.differences(path, "qcow2", guest.disk_path, "qcow2", shared=True)
        yield from [f"its image: {said}"] if said else []
    path.unlink()


def _nothing_left(host: World, wanted: set[str]) -> list[str]:
    problems = checks.nothing_on_the_host(host) + checks.no_orphans(host)
    more = {image["id"] for image in host.images()} - wanted
    return problems + [f"image {image_id} was promised to nobody" for image_id in sorted(more)]


if __name__ == "__main__":
    ServiceProcess.warden = Warden()
    sys.exit(min(run(functools.partial(print, flush=True)), 1))
