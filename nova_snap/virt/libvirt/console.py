# SPDX-License-Identifier: Apache-2.0
"""What a guest has printed on its serial console."""

import contextlib
import os
import pathlib
import pwd
import stat
from typing import Final

from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

MAX_BYTES: Final = 100 * 1024
"""How much of it is read, at most; Nova's bound."""

# Where a domain may write its console to a file, the more usual first.
_PLACES: Final = (
    ("devices/serial/log", "file"),
    ("devices/console/log", "file"),
    ("devices/serial[@type='file']/source", "path"),
    ("devices/console[@type='file']/source", "path"),
)

# Nova's service makes the directories of its instances; QEMU writes logs where virtlogd does not.
_OWNERS: Final = ("nova", "libvirt-qemu", "qemu")


def read(guest: Guest) -> bytes:
    """The end of the console's log, at most :data:`MAX_BYTES`.

    :raises nova_snap.exception.ConsoleNotAvailable: if there is no log, or it cannot be read.
    """
    path = log_path(guest.xml(), guest.name)
    if path is None:
        raise _not_available(guest, "no console of its domain is written to a file")
    try:
        found = tail(path, MAX_BYTES)
        if len(found) < MAX_BYTES:
            # The log may just have begun anew: virtlogd keeps what was before beside it.
            found = tail(path + ".0", MAX_BYTES - len(found)) + found
    except OSError as exc:
        LOG.warning("The console log of guest %s cannot be read: %s", guest.name, exc)
        raise _not_available(guest, f"its log cannot be read: {exc}") from exc
    return found


def log_path(xml: str, name: str) -> str | None:
    """Path of the file that a domain's console is written to, if there is one.

    :raises nova_snap.exception.InvalidDomain: if this is no domain's XML.
    """
    root = domain_xml.read_root(xml, name)
    for place, attribute in _PLACES:
        for element in root.iterfind(place):
            path = element.get(attribute)
            if path:
                return str(path)
    return None


def tail(path: str, size: int) -> bytes:
    """The last bytes of a regular file; none if there is no file: the guest has never run.

    The path is the XML's, and this process may read everything: it must be nobody else's choice
    what is there.

    :param size: how many, at most.
    :raises OSError: if it cannot be read, is something else than a file, or somebody else may have
        put it there.
    """
    directory, name = os.path.split(path)
    if not os.path.isabs(path) or not name:
        raise OSError(f"{path} is no absolute path of a file")
    try:
        parent = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        _check_directory(directory, os.fstat(parent))
        # No link is followed. A pipe or a terminal would make this wait.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        descriptor = os.open(name, flags, dir_fd=parent)
    except FileNotFoundError:
        return b""
    finally:
        os.close(parent)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        if status.st_nlink != 1:
            raise OSError(f"{path} has another name, too, and may be another file")
        file.seek(max(0, status.st_size - size))
        return file.read(size)


def _check_directory(path: str, status: os.stat_result) -> None:
    """See that only those whose files these are can say what is in a directory.

    :param status: of the directory, as it was opened.
    :raises OSError: if others can.
    """
    trusted = _trusted()
    if status.st_uid not in trusted or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise OSError(f"others may write to {path}, which the console's log is in")
    real = os.path.realpath(path)
    # By the way to it, too: whoever can rename one of its directories can put another there.
    for parent in {*pathlib.PurePath(path).parents, *pathlib.PurePath(real).parents}:
        found = os.stat(parent)
        # In a directory as /tmp everybody can rename only what is his own.
        open_to_all = found.st_mode & stat.S_IWOTH and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in trusted or open_to_all:
            raise OSError(f"others may write to {parent}, which the console's log is below")


def _trusted() -> set[int]:
    """Root, this process, and the users whose own the directories of consoles' logs are."""
    found = {0, os.geteuid()}
    for name in _OWNERS:
        with contextlib.suppress(KeyError):
            found.add(pwd.getpwnam(name).pw_uid)
    return found


def _not_available(guest: Guest, reason: str) -> exception.ConsoleNotAvailable:
    return exception.ConsoleNotAvailable(instance_uuid=guest.uuid, reason=reason)
