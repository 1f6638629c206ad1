# SPDX-License-Identifier: Apache-2.0
"""``.demo/`` or ``.cloud/``: what belongs to what a tool has started, and how all of it ends.

Nothing here trusts a pid that was written down: which processes belong to it is read off the
processes themselves (see :mod:`tools._common.processes`).
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

from tools._common import processes
from tools._common.errors import AlreadyUp, NoRoom, NotOurs, StillRunning

REPOSITORY = Path(__file__).resolve().parents[2]
# Sockets need short paths.
ROOTS = Path("/tmp")  # noqa: S108
ROOT_PREFIX = "nsl-"
SERVER_PREFIX = "ns-"
# Bytes that are in use at the worst moment, and some more.
ROOM = 3 << 30
ROOM_FOR_ROOTS = 1 << 30


class Home:
    """The directory of one tool in one repository.

    :param tool: ``demo`` or ``cloud``.
    """

    def __init__(self, tool: str, repository: Path = REPOSITORY) -> None:
        self.tool = tool
        self.repository = repository
        self.path = repository / f".{tool}"
        self.clouds = self.path / "clouds.yaml"
        self.config = self.path / "nova-snap.conf"
        self.logs = self.path / "logs"
        self._record = self.path / f"{tool}.json"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep every other process of the tool away for the block.

        :raises StillRunning: if another process is at it.
        """
        # The script itself is locked: a lock file could not be deleted without a race.
        with (self.repository / "tools" / self.tool).open() as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise StillRunning(self.tool) from None
            yield

    def require_down(self) -> bool:
        """Make sure that nothing is up, clearing away what was left by one that was killed.

        :returns: whether there was something to clear away.
        :raises AlreadyUp: if something was kept, and is up.
        """
        record = self._read()
        if record.get("kept") and self.processes():
            raise AlreadyUp(self.tool, self.clouds)
        return self.clear()

    def require_room(self) -> None:
        """:raises NoRoom: if the tool would fill a file system."""
        for path, needed in ((self.repository, ROOM), (ROOTS, ROOM_FOR_ROOTS)):
            free = shutil.disk_usage(path).free
            if free < needed:
                raise NoRoom(self.tool, path, free, needed)

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
        return self._new_place(ROOT_PREFIX)

    def new_server_directory(self) -> Path:
        """A directory for a server that runs as a system user, who may not get into the home."""
        return self._new_place(SERVER_PREFIX)

    def _new_place(self, prefix: str) -> Path:
        place = Path(tempfile.mkdtemp(prefix=prefix, dir=ROOTS))
        record = self._read()
        self._write({**record, "roots": [*record["roots"], str(place)]})
        return place

    def keep(self, **notes: Any) -> None:
        """Note that it is to stay up, and what :meth:`notes` is to give back."""
        self._write({**self._read(), "kept": True, "notes": notes})

    def notes(self) -> dict[str, Any] | None:
        """What was noted with :meth:`keep`; None if nothing was kept."""
        record = self._read()
        return dict(record["notes"]) if record.get("kept") else None

    def processes(self) -> list[int]:
        """The pids of all that belongs to the home."""
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
        return [
            root
            for root in roots
            if root.name.startswith((ROOT_PREFIX, SERVER_PREFIX)) and root.is_dir()
        ]

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
