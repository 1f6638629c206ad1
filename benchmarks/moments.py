# SPDX-License-Identifier: Apache-2.0
"""How long a guest is frozen, and which moment its image is of."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from benchmarks import content
from benchmarks.content import MIB
from benchmarks.figures import Figure, Plan, Unusable, percentile
from benchmarks.laboratory import Laboratory, as_qcow2, make_raw, over
from nova_snap.compute import task_states
from nova_snap.context import RequestContext
from nova_snap.image.glance import OnCancel
from nova_snap.virt.driver import ImageData
from nova_snap.virt.libvirt import guest as driver_guest
from tests.fixtures import disk_image
from tests.fixtures.lab_guest import Guest
from tests.functional.snapshot_parts import Instance, States

LONGEST_FREEZE = 0.15
LATEST_SECONDS = 1.0
PIECE = 1 << 20


class Discarded:
    """An image service that keeps nothing, for what ends before the upload begins."""

    def get(
        self,
        context: RequestContext,  # noqa: ARG002
        image_id: str,
    ) -> Mapping[str, Any]:
        return {"id": image_id, "name": "bench", "status": "queued"}

    def update(
        self,
        context: RequestContext,  # noqa: ARG002
        image_id: str,  # noqa: ARG002
        metadata: Mapping[str, Any],
        data: ImageData | None = None,
        size: int | None = None,  # noqa: ARG002
        on_cancel: OnCancel | None = None,  # noqa: ARG002
    ) -> Mapping[str, Any]:
        while data is not None and data.read(PIECE):
            pass
        return metadata


class FreezeWatch:
    """Times from each freeze sent to the thaw answered, of all guests of the driver."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._sent = 0.0

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        kind = driver_guest.Guest
        freeze, thaw = kind.freeze, kind.thaw

        def watched_freeze(guest: driver_guest.Guest, seconds: float) -> int:
            self._sent = time.perf_counter()
            return freeze(guest, seconds)

        def watched_thaw(guest: driver_guest.Guest, seconds: float) -> int:
            count = thaw(guest, seconds)
            self.seconds.append(time.perf_counter() - self._sent)
            return count

        with _replaced(kind, "freeze", watched_freeze), _replaced(kind, "thaw", watched_thaw):
            yield


@contextlib.contextmanager
def _replaced(kind: type, name: str, function: Callable[..., int]) -> Iterator[None]:
    original = getattr(kind, name)
    setattr(kind, name, function)
    try:
        yield
    finally:
        setattr(kind, name, original)


def freeze(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """Of guests with a small and a large disk."""
    found: dict[str, list[float]] = {}
    small = make_raw(laboratory, "freeze-small", 256 * MIB)
    large = make_raw(laboratory, "freeze-large", 64 << 30)
    content.write_scattered(large, content.START, plan.allocated * MIB, 64 << 30)
    for raw in (small, large):
        with laboratory.guest(raw.name, as_qcow2(laboratory, raw)) as guest:
            found[raw.name] = _freezes(laboratory, guest, plan.freezes)
    medians = {name: statistics.median(seconds) for name, seconds in found.items()}
    tails = {name: percentile(seconds, 99) for name, seconds in found.items()}
    sizes = zip(("256 MiB", "64 GiB"), found, strict=True)
    measured = "; ".join(
        f"{medians[name] * 1e3:.0f} ms, p99 {tails[name] * 1e3:.0f} ms ({size})"
        for size, name in sizes
    )
    yield Figure(
        "freeze",
        "guest's freeze, freeze sent to thaw answered",
        measured,
        "median under 150 ms",
        max(medians.values()) < LONGEST_FREEZE,
        {name: [round(value, 4) for value in seconds] for name, seconds in found.items()},
    )


def _freezes(laboratory: Laboratory, guest: Guest, count: int) -> list[float]:
    driver = laboratory.driver_with(Discarded())
    properties = {"hw_qemu_guest_agent": "yes", "os_require_quiesce": "yes"}
    instance = Instance(guest.uuid, guest.name, image_properties=properties)
    watch = FreezeWatch()
    with watch.watching():
        for _ in range(count):
            report = driver.snapshot(laboratory.context, instance, "discarded", States())
            if not report.quiesced:
                raise Unusable("the guest was not frozen")
    return watch.seconds


def point_in_time(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """A counter that the guest writes all the time: which value is in the image?"""
    raw = make_raw(laboratory, "counter", 2 << 30)
    content.write_random(raw, content.START, plan.random * MIB)
    with laboratory.guest("counter", over(laboratory, raw)) as guest:
        guest.start_writer()
        found = [_counters(laboratory, guest) for _ in range(plan.rounds)]
    good = [each for each in found if each["before"] <= each["image"] <= each["after"]]
    steady = not any(each["problems"] for each in found)
    last = found[-1]
    yield Figure(
        "point_in_time",
        "point in time: the guest's counter in the image",
        f"{len(good)} of {len(found)}: at the last, {last['image']} from {last['before']} to "
        f"{last['after']}, {last['end']} when the upload had ended",
        "between the request and 1 s after image_pending_upload",
        len(good) == len(found) and steady,
        {"rounds": found},
    )


def _counters(laboratory: Laboratory, guest: Guest) -> dict[str, Any]:
    after: list[int] = []
    states = States()
    timer = threading.Timer(LATEST_SECONDS, lambda: after.append(guest.counter()))
    states.on[task_states.IMAGE_PENDING_UPLOAD] = timer.start
    before = guest.counter()
    with laboratory.image() as image_id:
        laboratory.stream(guest, image_id, states=states)
        end = guest.counter()
        timer.join()
        path = laboratory.image_file(image_id)
        with disk_image.raw_view(path, "qcow2", directory=laboratory.directory) as view:
            view.fsck()
            state = view.writer_state()
    return {
        "before": before,
        "image": state.counter,
        "after": after[0],
        "end": end,
        "problems": state.problems,
    }
