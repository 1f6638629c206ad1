# SPDX-License-Identifier: Apache-2.0
"""Time, CPU time and temporary files of a snapshot, against the bare upload and by hand."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import content
from benchmarks.content import MIB
from benchmarks.figures import Figure, Plan, compared
from benchmarks.laboratory import Laboratory, Run, as_qcow2, make_raw, over
from benchmarks.measure import cpu_seconds
from tests.fixtures.disks import Disk
from tests.fixtures.lab_guest import Guest
from tests.functional.snapshot_parts import States

DISK_SIZE = 4 << 30
TREE_DISK_SIZE = 20 << 30
# Of tables and of the header of an empty scratch file.
SCRATCH_TABLES = 1 * MIB
IDLE_SECONDS = 3.0
SETTLE_SECONDS = 1.0
GIB = 1 << 30

Way = Callable[[str], Run]
Ways = Mapping[str, Way]


class Rounds:
    """The runs of each way, by round.

    :param ways: their names.
    """

    def __init__(self, ways: Iterable[str]) -> None:
        self.runs: dict[str, list[Run]] = {way: [] for way in ways}

    def active(self, way: str) -> list[float]:
        """Seconds until the image was active."""
        return [run.active for run in self.runs[way]]

    def cpu_per_gib(self, way: str, idle: float, size: int) -> list[float]:
        """CPU seconds, without what the guest itself takes meanwhile.

        :param idle: what that is in a second.
        :param size: of the image, in bytes.
        """
        return [(run.cpu - idle * run.seconds) / (size / GIB) for run in self.runs[way]]

    def temp_bytes(self, way: str) -> list[int]:
        return [run.temp_bytes for run in self.runs[way]]


def incompressible(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """Figures of a disk with random content in its own file, which is over a backing file."""
    disk = over(laboratory, make_raw(laboratory, "random", DISK_SIZE))
    content.write_own(disk.path, content.START, plan.random * MIB, laboratory.directory)
    finished = laboratory.directory / "finished"
    with laboratory.guest("random", disk) as guest:
        size = _finish(laboratory, guest, finished)
        idle = _idle_cpu(laboratory, guest)
        ways: Ways = {
            "stream": lambda image_id: laboratory.stream(guest, image_id),
            "upload": lambda image_id: laboratory.upload(finished, image_id),
            "unverified": lambda image_id: laboratory.stream(guest, image_id, verify=False),
            "recipe": lambda image_id: laboratory.recipe(guest, image_id),
            "bare": lambda image_id: laboratory.recipe(guest, image_id, bare=True),
        }
        found = _compare(laboratory, plan.rounds, ways)
        writing = [
            _while_overwriting(laboratory, guest, plan.overwritten, number)
            for number in range(plan.rounds)
        ]
    finished.unlink()
    yield from _times(found)
    yield _temporary(found, writing)
    yield from _cpu(found, idle, size)


def _times(found: Rounds) -> Iterator[Figure]:
    stream = found.active("stream")
    yield compared(
        "stream_to_upload",
        "stream, uncompressed, start to ACTIVE : bare upload",
        stream,
        found.active("upload"),
        1.05,
    )
    yield compared(
        "stream_to_recipe",
        "stream, uncompressed : recipe, incompressible content",
        stream,
        found.active("recipe"),
        0.65,
    )
    yield compared(
        "stream_to_bare_recipe",
        "the same, the recipe with the bare upload",
        stream,
        found.active("bare"),
        None,
    )


def _cpu(found: Rounds, idle: float, size: int) -> Iterator[Figure]:
    cpu = {way: found.cpu_per_gib(way, idle, size) for way in found.runs}
    yield compared(
        "cpu_to_recipe",
        "CPU seconds per GiB, uncompressed, verify_uploads off : recipe",
        cpu["unverified"],
        cpu["recipe"],
        0.5,
    )
    yield compared(
        "cpu_to_bare_recipe",
        "the same, the recipe with the bare upload",
        cpu["unverified"],
        cpu["bare"],
        None,
    )
    yield compared(
        "cpu_verified_to_recipe",
        "CPU seconds per GiB, uncompressed, uploads verified : recipe",
        cpu["stream"],
        cpu["recipe"],
        None,
    )


def incompressible_backing(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """The same with the content in the backing file, which the block copy leaves alone."""
    raw = make_raw(laboratory, "backing", DISK_SIZE)
    content.write_random(raw, content.START, plan.random * MIB)
    yield from _against_recipe(
        laboratory, plan, over(laboratory, raw), "none", "stream_to_recipe_backing",
        "stream, uncompressed : recipe, the content in a backing file", None,
    )  # fmt: skip


def operating_system(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """Figures of a disk with an operating system's files in its own file."""
    raw = make_raw(laboratory, "tree", TREE_DISK_SIZE)
    content.write_tree(raw, content.START, plan.tree * MIB, laboratory.directory)
    yield from _against_recipe(
        laboratory, plan, as_qcow2(laboratory, raw), "auto", "auto_to_recipe",
        f"stream, auto : recipe, operating system's files, {_amount(plan.tree)}", 0.35,
    )  # fmt: skip


def operating_system_small(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """The same with fewer files, which leave more of the time to what every snapshot takes."""
    raw = make_raw(laboratory, "tree-small", DISK_SIZE)
    content.write_tree(raw, content.START, plan.small_tree * MIB, laboratory.directory)
    yield from _against_recipe(
        laboratory, plan, as_qcow2(laboratory, raw), "auto", "auto_to_recipe_small",
        f"stream, auto : recipe, operating system's files, {_amount(plan.small_tree)}", None,
    )  # fmt: skip


def operating_system_backing(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """The same with the files in the backing file."""
    raw = make_raw(laboratory, "tree-backing", DISK_SIZE)
    content.write_tree(raw, content.START, plan.small_tree * MIB, laboratory.directory)
    yield from _against_recipe(
        laboratory, plan, over(laboratory, raw), "auto", "auto_to_recipe_backing",
        f"stream, auto : recipe, {_amount(plan.small_tree)} of them in a backing file", None,
    )  # fmt: skip


def _against_recipe(
    laboratory: Laboratory,
    plan: Plan,
    disk: Disk,
    compression: str,
    name: str,
    title: str,
    most: float | None,
) -> Iterator[Figure]:
    with laboratory.guest(name.replace("_", "-"), disk) as guest:
        ways: Ways = {
            "stream": lambda image_id: laboratory.stream(guest, image_id, compression=compression),
            "recipe": lambda image_id: laboratory.recipe(guest, image_id),
        }
        _once(laboratory, ways["stream"])
        found = _compare(laboratory, plan.rounds, ways)
    yield compared(name, title, found.active("stream"), found.active("recipe"), most)


def sparse(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """The same content on a small disk and, as widely spread as can be, on a very large one."""
    disks = {}
    for name, size in (("small", 4 << 30), ("huge", 1 << 40)):
        raw = make_raw(laboratory, name, size)
        content.write_scattered(raw, content.START, plan.allocated * MIB, size)
        disks[name] = as_qcow2(laboratory, raw)
    with (
        laboratory.guest("small", disks["small"]) as small,
        laboratory.guest("huge", disks["huge"]) as huge,
    ):
        ways: Ways = {
            "huge": lambda image_id: laboratory.stream(huge, image_id),
            "small": lambda image_id: laboratory.stream(small, image_id),
        }
        for way in ways.values():
            _once(laboratory, way)
        found = _compare(laboratory, plan.rounds, ways)
    yield compared(
        "huge_to_small",
        f"1 TiB virtual : 4 GiB virtual, {_amount(plan.allocated)} allocated on each",
        found.active("huge"),
        found.active("small"),
        1.1,
    )


def _finish(laboratory: Laboratory, guest: Guest, path: Path) -> int:
    """Take a first snapshot, which is not counted, and keep its bytes; returns how many."""
    with laboratory.image() as image_id:
        laboratory.stream(guest, image_id)
        data = laboratory.image_file(image_id)
        data.rename(path)
        data.touch()
    return path.stat().st_size


def _compare(laboratory: Laboratory, rounds: int, ways: Ways) -> Rounds:
    """One way after the other, and again."""
    found = Rounds(ways)
    for _ in range(rounds):
        for name, way in ways.items():
            found.runs[name].append(_once(laboratory, way))
    return found


def _once(laboratory: Laboratory, way: Way) -> Run:
    # What the way before has written is not to be written out at the cost of this one.
    os.sync()
    time.sleep(SETTLE_SECONDS)
    with laboratory.image() as image_id:
        return way(image_id)


def _idle_cpu(laboratory: Laboratory, guest: Guest) -> float:
    """Seconds of CPU time that the guest takes in a second when nothing is done."""
    pids = [laboratory.qemu_pid(guest)]
    before = cpu_seconds(pids)
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(pids) - before) / IDLE_SECONDS


@dataclass(frozen=True)
class Overwriting:
    """:ivar written: bytes that the guest wrote. :ivar temp_bytes: of temporary files."""

    written: int
    temp_bytes: int


def _while_overwriting(
    laboratory: Laboratory, guest: Guest, amount: int, number: int
) -> Overwriting:
    """Have the guest overwrite some of its content as soon as the point in time is over.

    :param amount: in MiB.
    :param number: of the round; each overwrites another part.
    """
    states = States()
    command = (
        f"dd if=/dev/zero of=/dev/vda bs=1M count={amount} "
        f"seek={content.START // MIB + number * amount} conv=notrunc,fsync 2> /dev/null"
    )
    domain = laboratory.domain(guest)
    before = domain.blockStats("vda")[3]
    states.on["image_pending_upload"] = lambda: guest.run(command)
    with laboratory.image() as image_id:
        run = laboratory.stream(guest, image_id, states=states)
    return Overwriting(domain.blockStats("vda")[3] - before, run.temp_bytes)


def _temporary(found: Rounds, writing: Sequence[Overwriting]) -> Figure:
    idle = max(found.temp_bytes("stream"))
    worst = max(run.temp_bytes - run.written for run in writing)
    busy = max(run.temp_bytes for run in writing)
    written = statistics.median(run.written for run in writing)
    by_hand = statistics.median(found.temp_bytes("recipe"))
    return Figure(
        "temporary_bytes",
        "temporary bytes on the host, uncompressed",
        f"{idle / MIB:.1f} MiB idle; {busy / MIB:.1f} MiB while the guest wrote "
        f"{written / MIB:.1f} MiB (recipe: {by_hand / MIB:.0f} MiB)",
        "what the guest overwrote, and 1 MiB of tables",
        max(idle, worst) <= SCRATCH_TABLES,
        {
            "idle": found.temp_bytes("stream"),
            "writing": [vars(run) for run in writing],
            "recipe": found.temp_bytes("recipe"),
        },
    )


def _amount(mib: int) -> str:
    return f"{mib / 1024:.3g} GiB" if mib >= 1024 else f"{mib} MiB"
