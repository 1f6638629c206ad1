# SPDX-License-Identifier: Apache-2.0
"""What the service, its guests' QEMUs and the host hold, between two snapshots."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from tests.crash.world import ROTATION
from tests.load.processes import holding
from tests.soak.flat import Rule
from tests.soak.world import World

# Those whose QEMU is the same all the time.
LASTING = ("writer", "still")
RUNNING = (*LASTING, "saved")

# What is asked for, and what comes of it, are kept for the user.
HISTORY = ("instance_actions", "instance_actions_events", "instance_faults")
JOURNAL = "snapshot_requests"

# In MiB. What was freed stays in the process, in pieces that the next snapshot's do not always fit
# into: RSS takes steps of some MiB that do not add up. What is in use does not, and shows what
# RSS hides: a few KiB lost with each snapshot.
RSS_GROWTH = 16
HEAP_GROWTH = 1
QEMU_GROWTH = 8
DISK_GROWTH = 4
# Of more than 600,000, four for each snapshot between the two medians.
OBJECTS_GROWTH = 1000

# What a snapshot has begun may end a moment after it.
_PATIENCE = 2.0

RULES = (
    Rule("files", "service: open files"),
    Rule("threads", "service: threads"),
    Rule.none("children", "service: processes that it has started"),
    Rule.mib("rss", "service: RSS, MiB", RSS_GROWTH),
    Rule.mib("heap", "service: heap in use, MiB", HEAP_GROWTH),
    Rule("objects", "service: blocks of Python's allocator", OBJECTS_GROWTH),
    *(
        rule
        for name in RUNNING
        for rule in (
            Rule(f"{name} files", f"QEMU of {name}: open files"),
            Rule(f"{name} nodes", f"QEMU of {name}: block nodes"),
            Rule(f"{name} objects", f"QEMU of {name}: objects"),
            Rule.none(f"{name} jobs", f"QEMU of {name}: jobs and exports"),
        )
    ),
    *(Rule.mib(f"{name} rss", f"QEMU of {name}: RSS, MiB", QEMU_GROWTH) for name in LASTING),
    Rule("qemus", "QEMU processes"),
    Rule.none("snapshots", "entries of snapshots_directory"),
    Rule.none("sockets", "entries of snapshot_socket_directory"),
    Rule.none("temporary", "entries of TMPDIR"),
    Rule("state", "entries of state_path"),
    Rule.mib("state bytes", "state_path without the database, MiB", 0),
    Rule("libvirt", "entries of libvirt's root"),
    Rule.mib("disk bytes", "disks of the guests, MiB", DISK_GROWTH),
    Rule.none("journal", "rows of the journal"),
    Rule("rows", "rows of other tables, without history"),
    Rule("history", "rows of history", growth=None),
    Rule.mib("database", "database, MiB", growth=None),
    Rule("images", "images of snapshots in Glance", None, most=ROTATION, least=ROTATION),
    Rule("stored", "files in Glance's store", None, most=ROTATION, least=ROTATION),
)
"""On every name of :meth:`Sampler.take`."""


class Sampler:
    """Takes samples of a host whose service runs."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._least: dict[str, float] = {}

    def take(self) -> dict[str, float]:
        """A sample: of each thing as much as there is for some time, and not only in passing.

        It is waited for until everything is at the least that was ever seen, for two seconds.
        """
        deadline = time.monotonic() + _PATIENCE
        seen = self._counts()
        while any(count > self._least.get(name, count) for name, count in seen.items()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
            seen = {name: min(count, seen[name]) for name, count in self._counts().items()}
        self._least = {
            name: min(count, self._least.get(name, count)) for name, count in seen.items()
        }
        return {**seen, **self._amounts()}

    def _counts(self) -> dict[str, float]:
        """What has to be as much as ever, in each sample."""
        world = self._world
        pid = self._pid()
        mine = holding(pid)
        counts: dict[str, float] = {
            "files": mine.files,
            "threads": mine.threads,
            "children": len(list(_children(pid))),
            "qemus": len(list(_qemus(world.lab.root))),
            "snapshots": _entries(world.snapshots),
            "sockets": _entries(world.sockets),
            "temporary": _entries(world.temporary),
            "state": _entries(self._state),
            "libvirt": _entries(world.lab.root),
        }
        for name in RUNNING:
            found = world.ask("hypervisor", name=name)
            counts[f"{name} files"] = holding(self._qemu(name)).files
            counts[f"{name} nodes"] = found["nodes"]
            counts[f"{name} objects"] = found["objects"]
            counts[f"{name} jobs"] = found["jobs"] + found["exports"]
        return counts

    def _amounts(self) -> dict[str, float]:
        """What has some play."""
        world = self._world
        amounts: dict[str, float] = {
            **self._rows(),
            **world.ask("memory"),
            "rss": holding(self._pid()).rss,
            "state bytes": _bytes(self._state, without=self._database),
            "disk bytes": _bytes(world.lab.instances),
            "database": self._database.stat().st_size,
            "images": len(world.images()),
            "stored": _entries(world.glance.data_dir / "images"),
        }
        return amounts | {f"{name} rss": holding(self._qemu(name)).rss for name in LASTING}

    def _rows(self) -> dict[str, float]:
        uri = f"file:{self._database}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True, timeout=30)) as database:
            names = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
            counts = {
                name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]  # noqa: S608
                for (name,) in names.fetchall()
            }
        journal = counts.pop(JOURNAL)
        history = sum(counts.pop(name) for name in HISTORY)
        return {"journal": journal, "history": history, "rows": sum(counts.values())}

    @property
    def _state(self) -> Path:
        return self._world.snapshots.parent

    @property
    def _database(self) -> Path:
        return self._state / "nova_snap.sqlite"

    def _pid(self) -> int:
        pid = self._world.service.pid
        assert pid is not None
        return pid

    def _qemu(self, name: str) -> int:
        return int((self._world.lab.root / f"run/qemu/{name}.pid").read_text())


def _entries(directory: Path) -> int:
    """How many files and directories are below it."""
    return sum(len(directories) + len(files) for _, directories, files in os.walk(directory))


def _bytes(directory: Path, without: Path | None = None) -> int:
    """What the files below it take on the disk."""
    total = 0
    for parent, _, names in os.walk(directory):
        for path in (Path(parent, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                total += 0 if path == without else path.lstat().st_blocks * 512
    return total


def _children(pid: int) -> Iterator[int]:
    """Those that nobody has waited for yet among them."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            # Behind the name, which may hold anything: proc(5) has the parent as 4.
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                yield int(path.parent.name)


def _qemus(root: Path) -> Iterator[int]:
    """The guests of a libvirt."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes()
            if b"qemu-system" in words and os.fsencode(root) in words:
                yield int(path.parent.name)
