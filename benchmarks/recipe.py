# SPDX-License-Identifier: Apache-2.0
"""The way that live snapshots are taken by hand: overlay, block copy, conversion, upload.

Step by step what Nova's libvirt driver does: the domain is undefined for the time of the copy, the
copy is looked at every half second, the conversion writes past the page cache where the file system
can do that, python-glanceclient sends the file, and all temporary files stay until the image is
there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import libvirt

from tests.fixtures.commands import run
from tests.fixtures.disks import Disk

TARGET = "vda"
POLL_SECONDS = 0.5
COPY_SECONDS = 600


class CopyFailed(Exception):
    """The block copy did not become ready."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the block copy of {TARGET}: {reason}")


def take(domain: Any, disk: Disk, directory: Path, upload: Callable[[Path], None]) -> None:
    """Take a snapshot of a running guest; it is where ``upload`` sends it when this returns.

    :param domain: libvirt's.
    :param directory: an empty one, for the temporary files, which are left to the caller.
    """
    delta, flat = directory / "snapshot.delta", directory / "snapshot"
    _create_overlay(delta, disk, domain.blockInfo(TARGET)[0])
    _copy(domain, delta)
    cache = "none" if _can_be_direct(directory) else "writeback"
    run(
        *("qemu-img", "convert", "-t", cache, "-f", "qcow2", "-O", "qcow2", delta, flat),
        timeout=COPY_SECONDS,
    )
    upload(flat)


def _create_overlay(path: Path, disk: Disk, size: int) -> None:
    backing: list[str | Path] = []
    if disk.backing:
        file, file_format = disk.backing[0]
        backing = ["-b", file, "-F", file_format]
    run("qemu-img", "create", "-q", "-f", "qcow2", *backing, path, str(size))


def _copy(domain: Any, delta: Path) -> None:
    """Into the overlay, of what is in the disk's own file. The image is of the copy's end."""
    xml = domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    domain.undefine()
    try:
        flags = (
            libvirt.VIR_DOMAIN_BLOCK_REBASE_COPY
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_REUSE_EXT
            | libvirt.VIR_DOMAIN_BLOCK_REBASE_SHALLOW
        )
        domain.blockRebase(TARGET, str(delta), 0, flags)
        try:
            _wait_until_ready(domain)
        finally:
            domain.blockJobAbort(TARGET, 0)
    finally:
        domain.connect().defineXML(xml)


def _wait_until_ready(domain: Any) -> None:
    deadline = time.monotonic() + COPY_SECONDS
    while True:
        info = domain.blockJobInfo(TARGET, 0)
        if not info:
            raise CopyFailed("it has ended by itself")
        if info["end"] and info["cur"] == info["end"] and "ready='yes'" in domain.XMLDesc():
            return
        if time.monotonic() > deadline:
            raise CopyFailed(f"it is at {info['cur']} of {info['end']} after {COPY_SECONDS} s")
        time.sleep(POLL_SECONDS)


def _can_be_direct(directory: Path) -> bool:
    """Whether files there can be written past the page cache."""
    path = directory / "direct"
    try:
        with contextlib.ExitStack() as stack:
            descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_DIRECT)
            stack.callback(os.close, descriptor)
    except OSError:
        return False
    finally:
        path.unlink(missing_ok=True)
    return True
