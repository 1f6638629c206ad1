# SPDX-License-Identifier: Apache-2.0
"""Time, CPU time and temporary files of a snapshot, against the bare upload and by hand."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks import content
from benchmarks.content import MIB
from benchmarks.figures import Figure, Plan, compared
from benchmarks.laboratory import Laboratory, Run, as_qcow2, make_raw, over
from benchmarks.measure import cpu_seconds
from tests.fixtures.lab_guest import Guest
from tests.functional.snapshot_parts import States

DISK_SIZE = 4 << 30
# Of tables and of the header of an empty scratch file.
SCRATCH_TABLES = 1 * MIB
IDLE_SECONDS = 3.0


@dataclass
class Rounds:
    """The runs of each way, by round."""

    stream: list[Run] = field(default_factory=list)
    recipe: list[Run] = field(default_factory=list)
    upload: list[Run] = field(default_factory=list)


def incompressible(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """Figures of a disk with random content in its backing file."""
    raw = make_raw(laboratory, "random", DISK_SIZE)
    content.write_random(raw, content.START, plan.random * MIB)
    with laboratory.guest("random", over(laboratory, raw)) as guest:
        idle = _idle_cpu(laboratory, guest)
        found = _compare(laboratory, guest, plan.rounds, "none", with_upload=True)
        writing = [
            _while_overwriting(laboratory, guest, plan.overwritten, number)
            for number in range(plan.rounds)
        ]
    streamed = [run.seconds for run in found.stream]
    yield compared(
        "stream_to_upload",
        "stream, uncompressed, start to ACTIVE : bare upload",
        streamed,
        [run.seconds for run in found.upload],
        1.05,
    )
    yield compared(
        "stream_to_recipe",
        "stream, uncompressed : recipe, incompressible content",
        streamed,
        [run.seconds for run in found.recipe],
        0.65,
    )
    yield _temporary(found, writing)
    yield compared(
        "cpu_to_recipe",
        "CPU seconds per GiB, uncompressed : recipe",
        _cpu_per_gib(found.stream, idle, found.stream),
        _cpu_per_gib(found.recipe, idle, found.stream),
        0.5,
    )


def operating_system(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """Figures of a disk with an operating system's files in its own file."""
    raw = make_raw(laboratory, "tree", DISK_SIZE)
    content.write_tree(raw, content.START, plan.tree * MIB, laboratory.directory)
    with laboratory.guest("tree", as_qcow2(laboratory, raw)) as guest:
        found = _compare(laboratory, guest, plan.rounds, "auto", with_upload=False)
    yield compared(
        "auto_to_recipe",
        "stream, auto : recipe, operating system's files",
        [run.seconds for run in found.stream],
        [run.seconds for run in found.recipe],
        0.35,
    )


def sparse(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """The same content on a small disk and, as widely spread as can be, on a very large one."""
    disks = {}
    for name, size in (("small", 4 << 30), ("huge", 1 << 40)):
        raw = make_raw(laboratory, name, size)
        content.write_scattered(raw, content.START, plan.allocated * MIB, size)
        disks[name] = as_qcow2(laboratory, raw)
    seconds: dict[str, list[float]] = {name: [] for name in disks}
    with (
        laboratory.guest("small", disks["small"]) as small,
        laboratory.guest("huge", disks["huge"]) as huge,
    ):
        for _ in range(plan.rounds):
            for guest in (huge, small):
                with laboratory.image() as image_id:
                    seconds[guest.name].append(laboratory.stream(guest, image_id).seconds)
    yield compared(
        "huge_to_small",
        f"1 TiB virtual : 4 GiB virtual, {_amount(plan.allocated)} allocated on each",
        seconds["huge"],
        seconds["small"],
        1.1,
    )


def _compare(
    laboratory: Laboratory, guest: Guest, rounds: int, compression: str, *, with_upload: bool
) -> Rounds:
    """One way after the other, and again; a first snapshot that is not counted comes before."""
    found = Rounds()
    finished = laboratory.directory / "finished"
    with laboratory.image() as image_id:
        laboratory.stream(guest, image_id, compression=compression)
        laboratory.image_file(image_id).rename(finished)
        laboratory.image_file(image_id).touch()
    for _ in range(rounds):
        with laboratory.image() as image_id:
            found.stream.append(laboratory.stream(guest, image_id, compression=compression))
        if with_upload:
            with laboratory.image() as image_id:
                found.upload.append(laboratory.upload(finished, image_id))
        with laboratory.image() as image_id:
            found.recipe.append(laboratory.recipe(guest, image_id))
    finished.unlink()
    return found


def _idle_cpu(laboratory: Laboratory, guest: Guest) -> float:
    """Seconds of CPU time that the guest takes in a second when nothing is done."""
    pids = [laboratory.qemu_pid(guest)]
    before = cpu_seconds(pids)
    time.sleep(IDLE_SECONDS)
    return (cpu_seconds(pids) - before) / IDLE_SECONDS


def _cpu_per_gib(runs: Sequence[Run], idle: float, streams: Sequence[Run]) -> list[float]:
    """Without what the guest itself takes meanwhile, which is more for whatever takes longer."""
    sizes = [run.report.uploaded_bytes for run in streams if run.report is not None]
    return [
        (run.cpu - idle * run.seconds) / (size / (1 << 30))
        for run, size in zip(runs, sizes, strict=True)
    ]


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
    idle = max(run.temp_bytes for run in found.stream)
    worst = max(run.temp_bytes - run.written for run in writing)
    busy = max(run.temp_bytes for run in writing)
    written = statistics.median(run.written for run in writing)
    by_hand = statistics.median(run.temp_bytes for run in found.recipe)
    return Figure(
        "temporary_bytes",
        "temporary bytes on the host, uncompressed",
        f"{idle / MIB:.1f} MiB idle; {busy / MIB:.1f} MiB while the guest wrote "
        f"{written / MIB:.1f} MiB (recipe: {by_hand / MIB:.0f} MiB)",
        "what the guest overwrote, and 1 MiB of tables",
        max(idle, worst) <= SCRATCH_TABLES,
        {
            "idle": [run.temp_bytes for run in found.stream],
            "writing": [vars(run) for run in writing],
            "recipe": [run.temp_bytes for run in found.recipe],
        },
    )


def _amount(mib: int) -> str:
    return f"{mib >> 10} GiB" if mib >= 1024 else f"{mib} MiB"
