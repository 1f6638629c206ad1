# SPDX-License-Identifier: Apache-2.0
"""What a guest feels of a snapshot: how long its own writes take."""

from __future__ import annotations

import base64
import contextlib
import re
import statistics
from collections.abc import Callable, Iterator
from threading import Event

from benchmarks import content
from benchmarks.content import MIB
from benchmarks.figures import Figure, Plan, percentile
from benchmarks.laboratory import Laboratory, as_qcow2, make_raw
from tests.fixtures.lab_guest import Guest

DISK_SIZE = 4 << 30
BLOCK = 4 << 10
READ = 1 << 20
TRACE = "/sys/kernel/tracing"
SYNC = re.compile(r" ([0-9]+\.[0-9]{6}): sys_fsync(\(| -> )")

PREPARE = (
    f"mount -t tracefs none {TRACE} && cd {TRACE} && echo mono > trace_clock && "
    "echo 1 > events/syscalls/sys_enter_fsync/enable && "
    "echo 1 > events/syscalls/sys_exit_fsync/enable; cd /"
)
# A write of 4 KiB and its sync, again and again, each into a cluster that this round has not
# written to before: for a backup the dearest kind.
LOOP = (
    "{{ ( i=$(cat /run/first 2> /dev/null || echo 0); while [ -e /run/probe ]; do "
    "dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=$(({first} + i % {count} * 16)) "
    "conv=notrunc,fsync; i=$((i + 1)); usleep 20000; done; "
    "echo $i > /run/next ) > /dev/null 2>&1 < /dev/null & }}"
)


def write_latency(laboratory: Laboratory, plan: Plan) -> Iterator[Figure]:
    """p99 while nothing happens, while a snapshot is taken, and while one is taken by hand."""
    raw = make_raw(laboratory, "latency", DISK_SIZE)
    content.write_random(raw, content.START, plan.random * MIB)
    found: dict[str, list[float]] = {"idle": [], "stream": [], "recipe": []}
    with laboratory.guest("latency", as_qcow2(laboratory, raw)) as guest:
        guest.run(PREPARE)
        ways: dict[str, Callable[[], object]] = {
            "idle": lambda: Event().wait(plan.idle),
            "stream": lambda: _snapshot(laboratory, guest, laboratory.stream),
            "recipe": lambda: _snapshot(laboratory, guest, laboratory.recipe),
        }
        for _ in range(plan.rounds):
            for name, way in ways.items():
                with _probing(guest, plan.random * MIB, found[name]):
                    way()
    measured = "; ".join(
        f"{name} {percentile(seconds, 99) * 1e3:.0f} ms (median "
        f"{statistics.median(seconds) * 1e3:.1f}, {len(seconds)} writes)"
        for name, seconds in found.items()
    )
    yield Figure(
        "write_latency",
        "guest's write of 4 KiB and sync, p99",
        measured,
        data={
            name: {
                "writes": len(seconds),
                "median": round(statistics.median(seconds), 5),
                "p90": round(percentile(seconds, 90), 5),
                "p99": round(percentile(seconds, 99), 5),
                "worst": round(max(seconds), 5),
            }
            for name, seconds in found.items()
        },
    )


def _snapshot(laboratory: Laboratory, guest: Guest, way: Callable[[Guest, str], object]) -> None:
    with laboratory.image() as image_id:
        way(guest, image_id)


@contextlib.contextmanager
def _probing(guest: Guest, size: int, found: list[float]) -> Iterator[None]:
    """Have the guest write all the while, and add to ``found`` how long each write took."""
    loop = LOOP.format(first=content.START // BLOCK, count=size // content.CLUSTER)
    guest.run("[ ! -e /run/next ] || mv /run/next /run/first")
    guest.run(f": > {TRACE}/trace; : > /run/probe")
    guest.run(loop)
    yield
    guest.run("rm /run/probe; while [ ! -e /run/next ]; do usleep 10000; done")
    guest.run(f"cp {TRACE}/trace /run/trace")
    found += _durations(_read(guest, "/run/trace"))


def _read(guest: Guest, path: str) -> str:
    """A file of the guest, by its agent: a serial console would take long, and errs at times."""
    handle = guest.agent("guest-file-open", path=path, mode="r")
    data = b""
    while not (part := guest.agent("guest-file-read", handle=handle, count=READ))["eof"]:
        data += base64.b64decode(part["buf-b64"])
    guest.agent("guest-file-close", handle=handle)
    return (data + base64.b64decode(part["buf-b64"])).decode()


def _durations(trace: str) -> Iterator[float]:
    """Seconds of each sync, by the guest's own kernel."""
    begun = None
    for time, mark in SYNC.findall(trace):
        if mark == "(":
            begun = float(time)
        elif begun is not None:
            yield float(time) - begun
            begun = None
