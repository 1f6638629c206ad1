# SPDX-License-Identifier: Apache-2.0
"""One compute service for each host: a second one would take for dead what the first is doing."""

import fcntl
import os
import urllib.parse
from pathlib import Path

from nova_snap import exception


class HostLock:
    """A file that the kernel keeps locked for as long as the process lives.

    :param directory: of this machine, or of what its containers share; it is made if it is missing.
    :param host: which of the hosts that may share the directory.
    """

    def __init__(self, directory: str, host: str) -> None:
        self._host = host
        self._path = Path(directory) / f"compute-{urllib.parse.quote(host, safe='')}.lock"
        self._descriptor: int | None = None

    def take(self) -> None:
        """Be the host's service from now on.

        :raises nova_snap.exception.HostTaken: if another one is.
        :raises OSError: if the directory cannot be used.
        """
        if self._descriptor is not None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # No child may get it: some outlive a service that was killed.
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 20).decode(errors="replace").strip()
            os.close(descriptor)
            raise exception.HostTaken(host=self._host, pid=pid, path=str(self._path)) from None
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Be it no more."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
