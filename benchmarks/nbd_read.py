# SPDX-License-Identifier: Apache-2.0
"""Reading a disk over NBD, against ``nbdcopy EXPORT null:`` on the same export.

::

    python benchmarks/nbd_read.py [--size 1024] [--runs 5] [--piece-size 1024] [--depth 4]

The disk is all data and in the page cache; one run of each reader follows the other, so that both
meet the same load. Prints a table of medians for qemu-nbd and for QEMU's own export, then one line
of JSON; ``ratio`` is the median of the ratios of the runs' times, ours to nbdcopy's: below 1 is
faster. The time of nbdcopy includes its start, which ``start s`` shows.
"""

import argparse
import contextlib
import json
import os
import pathlib
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from nova_snap.stream import nbd

MIB = 1 << 20
COMMANDS = ("qemu-nbd", "qemu-storage-daemon", "nbdcopy")


class Cost(NamedTuple):
    """Seconds, of the clock and of the reader's CPU."""

    wall: float
    cpu: float


def make_disk(path: pathlib.Path, size: int) -> None:
    """Random content, and all of it in the page cache."""
    piece = os.urandom(16 * MIB)
    with path.open("wb") as file:
        for start in range(0, size, len(piece)):
            file.write(piece[: size - start])


@contextlib.contextmanager
def served(command: list[str], socket_path: pathlib.Path) -> Iterator[str]:
    process = subprocess.Popen(command)
    try:
        deadline = time.monotonic() + 10
        while not socket_path.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{command[0]} does not serve")
            time.sleep(0.01)
        yield str(socket_path)
    finally:
        process.terminate()
        process.wait(10)


def servers(disk: pathlib.Path) -> dict[str, tuple[list[str], pathlib.Path]]:
    """Commands, and where they listen."""
    paths = {name: disk.parent / f"{name}.socket" for name in ("qemu-nbd", "qemu")}
    qemu_nbd = ["qemu-nbd", "--read-only", "--persistent", "-f", "raw", "-e", "8"]
    qemu_nbd += ["-k", str(paths["qemu-nbd"]), str(disk)]
    qemu = ["qemu-storage-daemon"]
    qemu += ["--blockdev", f"driver=file,node-name=disk,filename={disk},read-only=on"]
    qemu += ["--nbd-server", f"addr.type=unix,addr.path={paths['qemu']}"]
    qemu += ["--export", "type=nbd,id=export,node-name=disk,name=,writable=off"]
    return {"qemu-nbd": (qemu_nbd, paths["qemu-nbd"]), "qemu": (qemu, paths["qemu"])}


def cost(work: Callable[[], None], who: int) -> Cost:
    before = resource.getrusage(who)
    started = time.perf_counter()
    work()
    wall = time.perf_counter() - started
    after = resource.getrusage(who)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall, cpu)


def read_all(path: str, piece_size: int, depth: int) -> None:
    with nbd.Client(path, piece_size=piece_size, depth=depth) as client:
        total = 0
        for piece in client.read((part[0], part[1]) for part in client.extents() if part.data):
            total += len(piece)
        if total != client.size:
            raise SystemExit(f"{total} bytes were read, not {client.size}")


def nbdcopy(*arguments: str) -> None:
    command = ["nbdcopy", *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def compare(path: str, options: argparse.Namespace) -> tuple[list[Cost], list[Cost]]:
    """Costs of our runs and of nbdcopy's."""
    ours, theirs = [], []
    uri = f"nbd+unix:///?socket={path}"
    for _ in range(options.runs):
        ours.append(
            cost(
                lambda: read_all(path, options.piece_size << 10, options.depth),
                resource.RUSAGE_SELF,
            )
        )
        theirs.append(cost(lambda: nbdcopy(uri, "null:"), resource.RUSAGE_CHILDREN))
    return ours, theirs


def report(name: str, size: int, ours: list[Cost], theirs: list[Cost]) -> dict[str, float]:
    """Print the rows of one server."""
    ratio = statistics.median(a.wall / b.wall for a, b in zip(ours, theirs, strict=True))
    found: dict[str, float] = {"ratio": round(ratio, 3)}
    for reader, costs in (("nova_snap", ours), ("nbdcopy", theirs)):
        wall = statistics.median(run.wall for run in costs)
        cpu = statistics.median(run.cpu for run in costs)
        speed = size / MIB / wall
        found[f"{reader}_mib_s"] = round(speed)
        found[f"{reader}_cpu_s"] = round(cpu, 3)
        ours_to_theirs = f"{ratio:>8.2f}" if reader == "nova_snap" else ""
        print(f"{name:<10}{reader:<12}{speed:>8.0f}{wall:>9.3f}{cpu:>9.3f}{ours_to_theirs}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=1024, help="of the disk, in MiB")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--piece-size", type=int, default=nbd.PIECE_SIZE >> 10, help="in KiB")
    parser.add_argument("--depth", type=int, default=nbd.DEPTH, help="requests in flight")
    options = parser.parse_args()
    if options.size < 1 or options.runs < 1:
        parser.error("--size and --runs must be 1 or more")
    if missing := [command for command in COMMANDS if not shutil.which(command)]:
        parser.error(f"not installed: {', '.join(missing)}")
    size = options.size * MIB
    answer: dict[str, object] = {"size_mib": options.size, "runs": options.runs}
    start = cost(lambda: nbdcopy("--version"), resource.RUSAGE_CHILDREN).wall
    print(f"{'server':<10}{'reader':<12}{'MiB/s':>8}{'s':>9}{'CPU s':>9}{'ratio':>8}")
    with tempfile.TemporaryDirectory(prefix="nbd-read-") as directory:
        disk = pathlib.Path(directory) / "disk.raw"
        make_disk(disk, size)
        for name, (command, socket_path) in servers(disk).items():
            with served(command, socket_path) as path:
                answer[name] = report(name, size, *compare(path, options))
    print(f"start s of nbdcopy: {start:.3f}")
    print(json.dumps({"nbd_read": answer}))


if __name__ == "__main__":
    main()
