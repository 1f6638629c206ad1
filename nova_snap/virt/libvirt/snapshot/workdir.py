# SPDX-License-Identifier: Apache-2.0
"""The directory of one snapshot: its temporary files, and a journal of what it did to the guest.

The journal is for the case that this process does not live to clean up after itself. As long as
it lives it holds a lock on the directory, so that whoever finds a directory can tell a snapshot
that runs from one that was cut off.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from oslo_log import log as logging
from oslo_utils import uuidutils

LOG = logging.getLogger(__name__)

_JOURNAL: Final = "journal.json"
_NEW: Final = ".new"
_LOCK: Final = "lock"
# What mkdtemp() makes of an instance's uuid.
_NAME: Final = re.compile(r"([0-9a-f-]{36})-\w{8}")

# The hypervisor runs as another user and has to reach the one file that it writes, by its name;
# it has no need to list the directory.
_MODE: Final = 0o711


@dataclasses.dataclass(frozen=True)
class Journal:
    """What has to be put right if nobody else does. Each fact is written *before* it is true.

    :ivar host: the compute host whose service it is: others may share the directory with it.
    :ivar domain: the domain's name.
    :ivar domain_uuid: the domain's uuid; empty as long as nothing was done to it.
    :ivar domain_id: libvirt's number of the guest's process when the snapshot began; -1 without.
    :ivar method: the snapshot method's name.
    :ivar disk: target of the disk, such as ``vda``.
    :ivar power_state: of the guest when the snapshot began.
    :ivar saving: the guest's memory is being saved, or is saved, by us and not by a user.
    :ivar frozen: the guest's file systems may be frozen.
    :ivar undefined_xml: the domain is transient and has to be defined again from this.
    :ivar autostart: of the domain, which is lost with its definition.
    :ivar detached: devices that the guest has let go of, and is to get back: kind, address and XML
        of each.
    :ivar asked: devices that the guest is asked to let go of, or was, and has not: as above.
    :ivar defined: addresses of those that the guest's definition had.
    :ivar copying: the file that a block copy of the disk goes to.
    :ivar backup_socket: where a backup job of the guest is exported.
    :ivar reader_pids: of the qemu-nbd that read the disks, for whoever reads this; they are found
        without it (see :mod:`nova_snap.virt.libvirt.orphans`).
    :ivar socket_directory: of the sockets, which may lie elsewhere.
    :ivar ceph: what was made in Ceph clusters: facts of
        :class:`nova_snap.virt.libvirt.snapshot.ceph_made.Made`.
    """

    instance_uuid: str
    host: str = ""
    domain: str = ""
    domain_uuid: str = ""
    domain_id: int = -1
    method: str = ""
    disk: str = ""
    power_state: int | None = None
    saving: bool = False
    frozen: bool = False
    undefined_xml: str | None = None
    autostart: bool = False
    detached: Sequence[Sequence[str]] = ()
    asked: Sequence[Sequence[str]] = ()
    defined: Sequence[str] = ()
    copying: str = ""
    backup_socket: str = ""
    reader_pids: Sequence[int] = ()
    socket_directory: str = ""
    ceph: Sequence[Mapping[str, str]] = ()

    @property
    def is_settled(self) -> bool:
        """Nothing of the guest, or in a storage cluster, is to be put right any more."""
        return not any(
            (
                self.saving, self.frozen, self.undefined_xml, self.detached, self.asked,
                self.copying, self.backup_socket, self.ceph,
            )
        )  # fmt: skip


class WorkDir:
    """A snapshot's directory. Only :func:`create` and :func:`abandoned` make one."""

    def __init__(self, path: str, lock: int, journal: Journal) -> None:
        """:param lock: file descriptor that holds the lock; closed by :meth:`close`."""
        self.path = path
        self._lock = lock
        self.journal = journal

    def file(self, name: str) -> str:
        """Path of a file in the directory."""
        return os.path.join(self.path, name)

    def new_file(self, name: str) -> str:
        """Path of a new, empty file that nobody else may read: for a guest's data.

        libvirt gives a file that it lets the hypervisor write to that user, and takes it back.
        """
        path = self.file(name)
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        return path

    def note(self, **facts: Any) -> None:
        """Change the journal, on disk before this returns.

        :raises OSError: if it cannot be written. That something is right again is noted in memory
            in any case: a full file system must not keep a snapshot from ending.
        """
        adds = not facts or any(
            _adds(getattr(self.journal, name), value) for name, value in facts.items()
        )
        self.journal = dataclasses.replace(self.journal, **facts)
        try:
            self._write()
        except OSError as exc:
            if adds:
                raise
            LOG.warning("%s is not up to date: %s", self.file(_JOURNAL), exc)

    def _write(self) -> None:
        temporary = self.file(_JOURNAL + _NEW)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(dataclasses.asdict(self.journal), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.file(_JOURNAL))
        # What outlives the host, such as a domain's definition, has to be found after a power cut.
        _sync(self.path)

    def free_bytes(self) -> int:
        """Room that is left in the file system."""
        return shutil.disk_usage(self.path).free

    def close(self, keep: bool = False) -> None:
        """Delete the directory and all that is in it. Never raises.

        The journal is the last to go: a process that dies in the middle of this leaves what the
        next start knows. If something of the guest is still to be put right, it stays, and
        :func:`abandoned` finds it.

        :param keep: it stays in any case: something is left that the journal does not know of.
        """
        try:
            self._remove_data()
            if self.journal.is_settled and not keep:
                shutil.rmtree(self.path)
            else:
                LOG.error("What is left to be put right is in %s", self.file(_JOURNAL))
        except OSError:
            LOG.exception("Temporary directory %s could not be removed", self.path)
        os.close(self._lock)

    def _remove_data(self) -> None:
        for name in os.listdir(self.path):
            if name in (_JOURNAL, _LOCK):
                continue
            if os.path.isdir(self.file(name)):
                shutil.rmtree(self.file(name))
            else:
                os.unlink(self.file(name))


def create(parent: str, instance_uuid: str, host: str) -> WorkDir:
    """Make the directory of a new snapshot.

    :param parent: made if it does not exist.
    :param host: name of the compute host.
    :raises OSError: if it cannot be made; nothing is left of it then.
    """
    _make(parent)
    path = tempfile.mkdtemp(prefix=f"{instance_uuid}-", dir=parent)
    with contextlib.ExitStack() as undo:
        undo.callback(shutil.rmtree, path, ignore_errors=True)
        lock = _lock(path)
        if lock is None:
            raise OSError(f"{path} was locked by another process as it was made")
        undo.callback(os.close, lock)
        os.chmod(path, _MODE)
        workdir = WorkDir(path, lock, Journal(instance_uuid, host))
        workdir.note()
        _sync(parent)
        undo.pop_all()
    return workdir


def _adds(before: Any, after: Any) -> bool:
    """Whether a fact says that there is more to be put right than it said before."""
    if isinstance(after, Sequence) and not isinstance(after, str):
        known = [_plain(each) for each in before]
        return any(_plain(each) not in known for each in after)
    return bool(after) and after != before


def _plain(noted: Any) -> Any:
    """As it comes back from the file."""
    return list(noted) if isinstance(noted, tuple) else noted


def _sync(directory: str) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make(directory: str) -> None:
    """Make a directory, and those above it, if they are missing: each with its mode whatever the
    umask, which may keep the hypervisor out or let everybody in."""
    path = pathlib.Path(directory)
    for each in (*reversed(path.parents), path):
        if not each.is_dir():
            each.mkdir(exist_ok=True)
            each.chmod(_MODE)


def abandoned(parent: str, host: str, instance_uuid: str | None = None) -> Iterator[WorkDir]:
    """Directories whose snapshots were cut off, locked for the caller, who closes them.

    :param host: name of the compute host; what others have noted is not for it to put right.
    :param instance_uuid: only the directories of this instance.
    """
    try:
        names = sorted(os.listdir(parent))
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(parent, name)
        if not os.path.isdir(path) or os.path.islink(path):
            continue
        if instance_uuid is not None and not name.startswith(f"{instance_uuid}-"):
            continue
        found = _open(path, host)
        if found is not None:
            yield found


def _open(path: str, host: str) -> WorkDir | None:
    """:returns: ``None`` if it is nobody's, another host's, or somebody works on it."""
    journal = _read_journal(path)
    if journal is None or not _is_ours(path, journal, host):
        return None
    try:
        lock = _lock(path)
    except OSError as exc:
        LOG.warning("%s cannot be looked at: %s", path, exc)
        return None
    if lock is None:
        return None
    with contextlib.ExitStack() as undo:
        undo.callback(os.close, lock)
        # It may have changed until the lock was had.
        journal = _read_journal(path)
        if journal is None or not _is_ours(path, journal, host):
            return None
        undo.pop_all()
        return WorkDir(path, lock, journal)


# Hosts of which it was said that they have something here.
_told: Final[set[str]] = set()


def _is_ours(path: str, journal: Journal, host: str) -> bool:
    if journal.host in ("", host):
        return True
    if journal.host not in _told:
        _told.add(journal.host)
        LOG.warning(
            "Snapshots of host %s are left to its own service, such as that in %s. If this host "
            "(%s) was called so before, nobody puts right what is left of them: start the service "
            "with that [DEFAULT] host once more",
            journal.host,
            path,
            host,
        )
    return False


def instances(parent: str) -> Sequence[str]:
    """Uuids of the instances that have a directory, of a snapshot that runs or was cut off."""
    try:
        names = os.listdir(parent)
    except FileNotFoundError:
        return []
    found = {name[1] for each in names if (name := _NAME.fullmatch(each)) is not None}
    return sorted(found)


def is_name(name: str) -> bool:
    """Whether a directory of that name may be a snapshot's."""
    return _NAME.fullmatch(name) is not None


def _lock(path: str) -> int | None:
    """:returns: a descriptor that holds the lock, or ``None`` if somebody else has it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(os.path.join(path, _LOCK), flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _read_journal(path: str) -> Journal | None:
    """:returns: ``None`` for a directory that no snapshot made."""
    try:
        with open(os.path.join(path, _JOURNAL), encoding="utf-8") as file:
            facts = json.load(file)
            # What it was called when a snapshot had one disk.
            if pid := facts.pop("reader_pid", 0):
                facts["reader_pids"] = [pid]
            # What the guest was only asked for stood with what it had let go of.
            if "defined" not in facts:
                asked, detached = (facts.get(name, []) for name in ("asked", "detached"))
                facts["asked"] = [*asked, *(each for each in detached if each not in asked)]
            return Journal(**facts)
    except FileNotFoundError as exc:
        if (begun := _begun(path)) is not None:
            return begun
        reason: Exception = exc
    except (OSError, ValueError, TypeError, AttributeError) as exc:
        reason = exc
    LOG.warning("%s is no snapshot's directory, and left alone: %s", path, reason)
    return None


def _begun(path: str) -> Journal | None:
    """What a process leaves that dies in :func:`create`: no journal yet, and nothing done yet."""
    name = _NAME.fullmatch(os.path.basename(path))
    if name is None or not uuidutils.is_uuid_like(name[1]):
        return None
    try:
        names = os.listdir(path)
    except OSError:
        # Whose it was has deleted it just now, for example.
        return None
    if not {_LOCK, _JOURNAL + _NEW}.issuperset(names):
        return None
    return Journal(name[1])
