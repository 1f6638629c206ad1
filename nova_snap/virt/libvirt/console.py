# SPDX-License-Identifier: Apache-2.0
"""What a guest has printed on its serial console."""

import os
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

    :param size: how many, at most.
    :raises OSError: if it cannot be read, or is something else than a file.
    """
    try:
        # A pipe or a terminal would make this wait.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return b""
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(f"{path} is not a regular file")
        file.seek(max(0, status.st_size - size))
        return file.read(size)


def _not_available(guest: Guest, reason: str) -> exception.ConsoleNotAvailable:
    return exception.ConsoleNotAvailable(instance_uuid=guest.uuid, reason=reason)
