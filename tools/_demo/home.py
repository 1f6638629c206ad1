# SPDX-License-Identifier: Apache-2.0
"""``.demo/``: what belongs to one demonstration, and how all of it ends.

Nothing here trusts a pid that was written down: which processes belong to the demonstration is
read off the processes themselves (see :mod:`tools._demo.processes`).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools._demo import processes
from tools._demo.errors import AlreadyUp, NoRoom, NotOurs, StillRunning

REPOSITORY = Path(__file__).resolve().parents[2]
# Sockets need short paths.
ROOTS = Path("/tmp")  # noqa: S108
ROOT_PREFIX = "nsl-"
# Bytes that are in use at the worst moment, and some more.
ROOM = 3 << 30
ROOM_FOR_ROOTS = 1 << 30


class Home:
    """The directory of the demonstration of one repository."""

    def __init__(self, repository: Path = REPOSITORY) -> None:
        self.repository = repository
        self.path = repository / ".demo"
        self.clouds = self.path / "clouds.yaml"
        self.config = self.path / "nova-snap.conf"
        self.logs = self.path / "logs"
        self._record = self.path / "demo.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process away from the demonstration for the block.

        :raises StillRunning: if another process is at it.
        """
        # The script itself is locked: a lock file could not be deleted without a race.
        with (self.repository / "tools/demo").open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StillRunning from None
            yield

    def require_down(self) -> bool:
        """Make sure that nothing is up, clearing away what was left by one that was killed.

        :returns: whether there was something to clear away.
        :raises AlreadyUp: if a demonstration was kept, and is up.
        """
        record = self._read()
        if record.get("kept") and self.processes():
            raise AlreadyUp(self.clouds)
        return self.clear()

    def require_room(self) -> None:
        """:raises NoRoom: if the demonstration would fill a file system."""
        for path, needed in ((self.repository, ROOM), (ROOTS, ROOM_FOR_ROOTS)):
            free = shutil.disk_usage(path).free
            if free < needed:
                raise NoRoom(path, free, needed)

    def make(self) -> None:
        """Make the directory, empty.

        :raises NotOurs: if it cannot be written to.
        """
        try:
            self.logs.mkdir(parents=True, exist_ok=True)
            self._write({"roots": [], "kept": False})
        except PermissionError as error:
            raise NotOurs(error.filename) from error

    def new_root(self) -> Path:
        """A directory for a private libvirt and its guests, in another place."""
        root = Path(tempfile.mkdtemp(prefix=ROOT_PREFIX, dir=ROOTS))
        record = self._read()
        self._write({**record, "roots": [*record["roots"], str(root)]})
        return root

    def keep(self) -> None:
        """Note that it is to stay up."""
        self._write({**self._read(), "kept": True})

    def processes(self) -> list[int]:
        """The pids of all that belongs to the demonstration."""
        return [*processes.marked(self.path), *processes.of_roots(self._roots())]

    def clear(self, *, keep_logs: bool = False) -> bool:
        """End all processes and delete all files, in any state of affairs.

        :returns: whether there was anything but logs.
        :raises NotOurs: if some of it belongs to another user.
        """
        found = bool(self.processes()) or self._record.exists()
        processes.end(lambda: processes.marked(self.path), "services", patience=15)
        roots = self._roots()
        processes.end(lambda: processes.of_roots(roots), "guests", patience=5)
        try:
            for root in roots:
                shutil.rmtree(root)
            if self.path.exists():
                self._empty(keep_logs)
        except PermissionError as error:
            raise NotOurs(error.filename) from error
        return found

    def _empty(self, keep_logs: bool) -> None:
        for path in self.path.iterdir():
            if path.is_dir() and not (keep_logs and path == self.logs):
                shutil.rmtree(path)
            elif not path.is_dir():
                path.unlink()
        if not keep_logs:
            self.path.rmdir()

    def _roots(self) -> list[Path]:
        """The roots that were noted, as far as they are there."""
        roots = [Path(root) for root in self._read().get("roots", [])]
        return [root for root in roots if root.name.startswith(ROOT_PREFIX) and root.is_dir()]

    def _read(self) -> dict[str, Any]:
        try:
            return dict(json.loads(self._record.read_text()))
        except PermissionError as error:
            raise NotOurs(error.filename) from error
        except (OSError, ValueError):
            # None was made, or the machine went down while it was written.
            return {}

    def _write(self, record: dict[str, Any]) -> None:
        temporary = self._record.with_suffix(".new")
        with temporary.open("w") as file:
            json.dump(record, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self._record)
