# SPDX-License-Identifier: Apache-2.0
"""Real NBD servers on unix sockets: qemu-nbd, QEMU's storage daemon, nbdkit."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

START_TIMEOUT = 10


class NBDServer:
    """A process that serves ``path``; all of it is gone after ``stop``."""

    def __init__(self, path: str, process: subprocess.Popen[bytes], log: IO[bytes]) -> None:
        self.path = path
        self._process = process
        self._log = log

    def wait_until_it_serves(self) -> None:
        """:raises RuntimeError: with what it printed, if it does not."""
        deadline = time.monotonic() + START_TIMEOUT
        while time.monotonic() < deadline and self._process.poll() is None:
            with socket.socket(socket.AF_UNIX) as probe, contextlib.suppress(OSError):
                probe.connect(self.path)
                return
            time.sleep(0.01)
        self._log.seek(0)
        raise RuntimeError(f"the server does not serve: {self._log.read().decode()}")

    def pause(self) -> None:
        """Let it be silent, with its connections open."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(10)

    @property
    def running(self) -> bool:
        return self._process.poll() is None

    def wait(self, timeout: float = 10) -> int:
        """Until it ends by itself."""
        return self._process.wait(timeout)

    def stop(self) -> None:
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self.kill()


@contextlib.contextmanager
def _running(command: Sequence[str], path: Path, *, probe: bool = True) -> Iterator[NBDServer]:
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        server = NBDServer(str(path), process, log)
        try:
            if probe:
                server.wait_until_it_serves()
            else:
                deadline = time.monotonic() + START_TIMEOUT
                while not path.exists() and time.monotonic() < deadline:
                    time.sleep(0.01)
            yield server
        finally:
            server.stop()


@contextlib.contextmanager
def _socket_path() -> Iterator[Path]:
    directory = tempfile.mkdtemp(prefix="ns-nbd-", dir="/tmp")
    try:
        yield Path(directory) / "socket"
    finally:
        shutil.rmtree(directory)


@contextlib.contextmanager
def qemu_nbd(
    disk: Path, disk_format: str, *options: str, once: bool = False
) -> Iterator[NBDServer]:
    """:param once: end with the first client, as it does unless told otherwise."""
    with _socket_path() as path:
        lasting = [] if once else ["--persistent"]
        command = ["qemu-nbd", "--read-only", "-f", disk_format, "-k", path, *lasting, *options]
        with _running([*command, str(disk)], path, probe=not once) as server:
            yield server


@contextlib.contextmanager
def storage_daemon(
    disk: Path, disk_format: str, export: str, *, bad_sector: int | None = None
) -> Iterator[NBDServer]:
    """QEMU's own export, as a backup job has it, without a guest.

    :param bad_sector: of the file, that cannot be read.
    """
    error = ""
    if bad_sector is not None:
        error = ",inject-error.0.event=none,inject-error.0.iotype=read,inject-error.0.errno=5"
        error += f",inject-error.0.sector={bad_sector}"
    with _socket_path() as path:
        command = [
            "qemu-storage-daemon",
            *("--blockdev", f"driver=file,node-name=file,filename={disk},read-only=on"),
            *("--blockdev", f"driver=blkdebug,node-name=debug,image=file,read-only=on{error}"),
            *("--blockdev", f"driver={disk_format},node-name=disk,file=debug,read-only=on"),
            *("--nbd-server", f"addr.type=unix,addr.path={path}"),
            *("--export", f"type=nbd,id=export,node-name=disk,name={export},writable=off"),
        ]
        with _running(command, path) as server:
            yield server


@contextlib.contextmanager
def nbdkit(*arguments: str) -> Iterator[NBDServer]:
    with _socket_path() as path:
        command = ["nbdkit", "--foreground", "--readonly", "--unix", path, *arguments]
        with _running(command, path) as server:
            yield server
