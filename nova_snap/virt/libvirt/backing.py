# SPDX-License-Identifier: Apache-2.0
"""Where a layer of a disk may lie, and what its backing file is.

What is in a header, somebody has written whom nobody knows. A name in it is followed only where it
cannot lead to a secret of the host's.
"""

import os
import pathlib
import re
import stat
import uuid
from collections.abc import Sequence
from typing import BinaryIO, Final

from nova_snap import exception
from nova_snap.virt.libvirt import domain_disks, qcow2_header

# Where Nova keeps the images that disks are made from: beside the directories of the instances.
_BASE: Final = "_base"

# A colon before any slash makes QEMU take what stands before it for a protocol.
_PROTOCOL: Final = re.compile(r"[^/]*:")


_WRITABLE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


class Shown:
    """What libvirt tells of the backing files of a disk, which is what a guest has them for."""

    def __init__(self, disk: domain_disks.Disk | None = None) -> None:
        self._layers: Sequence[domain_disks.Layer] = () if disk is None else disk.backing
        self._complete = disk is not None and disk.backing_complete

    def find(self, path: str, backing: str, depth: int) -> domain_disks.Layer | None:
        """What a header calls a backing file, as libvirt has it.

        :param depth: 0 for the backing file of the disk itself.
        :returns: ``None`` if libvirt does not tell.
        :raises nova_snap.exception.UnsafeDisk: if libvirt has another one, or none.
        """
        if depth < len(self._layers):
            found = self._layers[depth]
            if found.path is None:
                return None
            if os.path.realpath(found.path) == os.path.realpath(backing):
                return found
            theirs = found.path
        elif self._complete:
            theirs = "none"
        else:
            return None
        raise exception.UnsafeDisk(
            path=path,
            reason=f"its header names the backing file {backing}, and its domain has {theirs}",
        )


def check_location(top: str, is_file: bool, path: str, backing: str) -> None:
    """Whoever wrote a header may have named a secret of the host's: it is in no such place.

    :param top: path of the disk itself.
    :param is_file: and not a device.
    :param path: of the layer whose header it is.
    :param backing: what it names.
    :raises nova_snap.exception.UnsafeDisk:
    """
    home = os.path.dirname(os.path.realpath(top))
    base = os.path.join(os.path.dirname(home), _BASE)
    real = os.path.realpath(backing)
    if is_file and os.path.dirname(real) in (home, base):
        return
    if not _is_public(real):
        against = "not everybody on this host may read; move it there, or let everybody read it"
    elif _may_be_a_disk(real, home):
        against = "may be the disk of another guest; move it there, or let nobody write to it"
    else:
        return
    raise exception.UnsafeDisk(
        path=path,
        reason=f"its header names the backing file {backing}, which lies neither in {home} nor "
        f"in {base}, and which {against}",
    )


def _is_public(path: str) -> bool:
    """Whether everybody on this host may read a file. What is none is nobody's secret."""
    try:
        mode = os.stat(path).st_mode
        if not stat.S_ISREG(mode):
            return True
        return bool(mode & stat.S_IROTH) and all(
            parent.stat().st_mode & stat.S_IXOTH for parent in pathlib.Path(path).parents
        )
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _may_be_a_disk(path: str, home: str) -> bool:
    """Whether a file may be what another guest writes to, whoever may read it: QEMU's tools make
    disks that everybody may read, and so does Nova.

    :param home: the directory of the disk whose chain it is.
    """
    directory = os.path.dirname(path)
    if directory != home and _is_uuid(os.path.basename(directory)):
        # An instance's, be it Nova's or one of nova_snap's.
        return True
    # The directories of guests lie beside each other; images may lie there, too, but nobody
    # writes to them.
    around = os.path.dirname(home)
    if not path.startswith(os.path.join(home if around == os.sep else around, "")):
        return False
    try:
        status = os.stat(path)
    except OSError:
        return False
    return stat.S_ISREG(status.st_mode) and bool(status.st_mode & _WRITABLE)


def _is_uuid(name: str) -> bool:
    try:
        return str(uuid.UUID(name)) == name.lower()
    except ValueError:
        return False


def open_layer(path: str, device: bool = False) -> BinaryIO:
    """Open a file, or a block device, to read it.

    :raises nova_snap.exception.UnsafeDisk: if it is none.
    """
    if not os.path.isabs(path):
        raise exception.UnsafeDisk(path=path, reason="its path is not absolute")
    try:
        # Looked at before it is opened: to open a pipe may take for ever, and to open a device may
        # do something, as it does with a watchdog or a tape.
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            mode = os.fstat(place).st_mode
            expected = stat.S_ISBLK(mode) if device else stat.S_ISREG(mode)
            if expected:
                return open(f"/proc/self/fd/{place}", "rb")
        finally:
            os.close(place)
    except OSError as exc:
        reason = f"it cannot be read: {exc.strerror}"
        raise exception.UnsafeDisk(path=path, reason=reason) from exc
    kind = "block device" if device else "regular file"
    raise exception.UnsafeDisk(path=path, reason=f"it is not a {kind}")


def full_path(path: str, name: str) -> str:
    """Where a backing file is.

    :param path: of the layer whose header names it.
    :raises nova_snap.exception.UnsafeDisk: if it would be reached by a protocol.
    """
    if _PROTOCOL.match(name):
        raise exception.UnsafeDisk(
            path=path, reason=f"its backing file {name!r} is not a plain file name"
        )
    return os.path.join(os.path.dirname(path), name)


def format_of(
    path: str,
    backing: str,
    header: qcow2_header.Qcow2Header,
    shown: domain_disks.Layer | None,
) -> str:
    """The format of a backing file.

    :param path: of the layer whose header it is.
    :param shown: what libvirt tells of it.
    :raises nova_snap.exception.UnsafeDisk: if that is anybody's guess.
    """
    if header.backing_format is not None:
        return header.backing_format
    if shown is not None:
        return shown.format
    # libvirt takes such a backing file for raw, but newer versions look into it first. Where both
    # come to the same, raw it is; else one of them would read another disk than the other.
    with open_layer(backing) as file:
        if file.read(len(qcow2_header.MAGIC)) == qcow2_header.MAGIC:
            raise exception.UnsafeDisk(
                path=path,
                reason=f"its header does not name the format of its backing file {backing}, which "
                "looks like qcow2; name it with: qemu-img rebase -u -b FILE -F FORMAT",
            )
    return "raw"
