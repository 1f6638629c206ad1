# SPDX-License-Identifier: Apache-2.0
"""qemu-nbd: a disk that no guest has open, offered read-only on a unix socket."""

import contextlib
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from nova_snap import exception
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import confinement, processes, secrets
from nova_snap.virt.libvirt.backup_job import Export

START_SECONDS: Final = 30
_STOP_SECONDS: Final = 10
_POLL: Final = 0.01
_GREETING_SECONDS: Final = 1.0
_MAX_STDERR: Final = 2000

# Whoever is not this process may not read the disk.
_SOCKET_UMASK: Final = 0o177


@contextlib.contextmanager
def export(
    chain: chains.Chain,
    socket_path: str,
    log_path: str,
    on_start: Callable[[int], None],
    keys: secrets.Keys = secrets.NO_KEYS,
    user: confinement.User | None = None,
) -> Iterator[Export]:
    """Export on entry, end it on exit.

    QEMU's file locks keep a guest from being started on the disk meanwhile, and this from
    starting while one runs. For a block device see :mod:`nova_snap.virt.libvirt.write_watch`.

    :param chain: every layer and its format: nothing is found out from headers.
    :param socket_path: where to listen; made here, in a directory that ``user`` may write to.
    :param log_path: for what the program has to say; made here.
    :param on_start: is told the process id, and 0 when it has ended: it would outlive this
        process.
    :param keys: see :func:`nova_snap.virt.libvirt.secrets.key_files`; read before the entry ends.
    :param user: whom it runs as; ``None`` is this process's own.
    :raises nova_snap.exception.QemuNbdFailed: if it does not start.
    """
    # What it says of a disk may have the disk's bytes in it.
    descriptor = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            command(chain, socket_path, keys, user),
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            umask=_SOCKET_UMASK,
            env=confinement.environment(),
            pass_fds=keys.descriptors,
        )
    except OSError as exc:
        raise exception.QemuNbdFailed(path=chain[0].path, reason=str(exc)) from exc
    finally:
        os.close(descriptor)
    try:
        on_start(process.pid)
        _wait_until_it_serves(process, socket_path, log_path, chain[0].path)
        yield Export(socket_path, "")
    finally:
        processes.end(process, "qemu-nbd", _STOP_SECONDS)
        on_start(0)


def command(
    chain: chains.Chain,
    socket_path: str,
    keys: secrets.Keys = secrets.NO_KEYS,
    user: confinement.User | None = None,
) -> list[str]:
    """The program and its arguments, confined."""
    words = [
        "qemu-nbd",
        "--read-only",
        "--persistent",
        "--shared=4",
        "--cache=writeback",
        *keys.arguments,
        f"--socket={socket_path}",
        chains.filename(chain, exclusive=True),
    ]
    directory = os.path.dirname(socket_path)
    return confinement.command(words, confinement.COPY_LIMITS, user, chain, writes=[directory])


def _wait_until_it_serves(
    process: subprocess.Popen[bytes], socket_path: str, log_path: str, disk: str
) -> None:
    """It listens before it opens the disk, and greets its clients only then."""
    deadline = time.monotonic() + START_SECONDS
    pause = threading.Event()
    while not _greets(socket_path):
        if process.poll() is not None:
            raise exception.QemuNbdFailed(path=disk, reason=_last_words(log_path))
        if time.monotonic() >= deadline:
            reason = f"it does not serve after {START_SECONDS} s"
            raise exception.QemuNbdFailed(path=disk, reason=reason)
        pause.wait(_POLL)


def _greets(socket_path: str) -> bool:
    if not os.path.exists(socket_path):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(_GREETING_SECONDS)
        try:
            client.connect(socket_path)
            return bool(client.recv(1))
        except OSError:
            return False


def _last_words(log_path: str) -> str:
    with open(log_path, errors="replace") as log:
        return log.read().strip()[-_MAX_STDERR:] or "it ended without a word"
