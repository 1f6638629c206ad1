# SPDX-License-Identifier: Apache-2.0
"""A libvirt backup job in pull mode: disks as of one instant, to be read while the guest goes on.

QEMU offers the disks as they were when the job began on a unix socket. Before the guest overwrites
a part of one, the old content goes to its scratch file. A scratch file that cannot grow would make
the *guest's* write fail, not the job: that is what :class:`ScratchGuard` is for.
"""

import contextlib
import dataclasses
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from lxml import etree
from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap.virt.libvirt import domain_disks, domain_xml
from nova_snap.virt.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

_GUARD_SECONDS: Final = 0.25
_FIRST_POLL: Final = 0.01
_LAST_POLL: Final = 0.5


@dataclasses.dataclass(frozen=True)
class Export:
    """Where a disk can be read.

    :ivar socket: path of a unix socket.
    :ivar name: of the NBD export.
    """

    socket: str
    name: str


def job_xml(domain: domain_xml.Domain, socket: str, scratches: Mapping[str, str]) -> str:
    """The ``<domainbackup>`` of some disks; the domain's others are left out of it.

    :param socket: where to listen; the name of a disk's export is its target.
    :param scratches: target and path of an empty qcow2 file, for each disk; it is encrypted as
        the disk is.
    """
    backup = etree.Element("domainbackup", mode="pull")
    etree.SubElement(backup, "server", transport="unix", socket=socket)
    disks = etree.SubElement(backup, "disks")
    for disk in domain.disks:
        if disk.target not in scratches:
            etree.SubElement(disks, "disk", name=disk.target, backup="no")
    for target, scratch in scratches.items():
        node = etree.SubElement(
            disks,
            "disk",
            name=target,
            backup="yes",
            type="file",
            backupmode="full",
            exportname=target,
        )
        etree.SubElement(node, "driver", type="qcow2")
        element = etree.SubElement(node, "scratch", file=scratch)
        encryption = domain.disk(target).layer_encryption
        if encryption is not None:
            element.append(_encryption_xml(encryption))
    return str(etree.tostring(backup, encoding="unicode"))


def _encryption_xml(encryption: domain_disks.Encryption) -> etree._Element:
    element = etree.Element("encryption", format=encryption.format)
    reference = encryption.secret
    if reference is not None:
        # libvirt wants one of the two.
        key = {"uuid": reference.uuid} if reference.uuid else {"usage": reference.usage or ""}
        etree.SubElement(element, "secret", type="passphrase", **key)
    return element


def check_free(guest: Guest, is_own: Callable[[str], bool] = lambda _socket: False) -> None:
    """See that no backup job runs: beginning a second one would wait for the first.

    :param is_own: whether a socket is one of this service's. A job that is exported there was left
        by a snapshot of before, and is ended: a guest has one snapshot at a time.
    :raises nova_snap.exception.BackupJobFailed: if a backup job of somebody else runs.
    """
    socket = guest.backup_socket()
    if socket is None:
        return
    if is_own(socket):
        LOG.warning("Ending a stray backup job of guest %s on %s", guest.name, socket)
        end(guest, socket)
        return
    raise exception.BackupJobFailed(
        domain=guest.name, reason="another backup of this domain runs; wait until it has ended"
    )


def end(guest: Guest, socket: str) -> None:
    """End the job that is exported on ``socket``, if there is one, and return when it is gone.

    :raises nova_snap.exception.BackupJobFailed: if it does not end in time.
    """
    deadline = time.monotonic() + guest.patience
    pause = threading.Event()
    interval = _FIRST_POLL
    asked: int | None = None
    while True:
        try:
            if not guest.is_active() or guest.backup_socket() != socket:
                return
            if asked != (interruptions := guest.interruptions):
                guest.abort_job()
                # It ends in its own time; a second order would only wait for the first. But a
                # libvirt that was started again since does not know of it any more.
                asked = interruptions
        except exception.DomainNotFound:
            return
        except exception.NovaSnapError as exc:
            LOG.warning("The backup job of guest %s does not end yet: %s", guest.name, exc)
            asked = None
        if time.monotonic() >= deadline:
            reason = f"it did not end within {guest.patience:g} s; end it: virsh domjobabort"
            raise exception.BackupJobFailed(domain=guest.name, reason=reason)
        pause.wait(interval)
        interval = min(interval * 2, _LAST_POLL)


def end_rest(guest: Guest, directory: str) -> None:
    """End what QEMU still has of a job that has ended, but not to the last step.

    libvirt ends a job in steps, and one that dies in between does not take the rest up again when
    it is started: it knows of no job any more, and each new one fails with "NBD server already
    running" until the guest is stopped. The scratch files stay open as long.

    :param guest: one that a job of ours was begun on, or about to be.
    :param directory: of its scratch files.
    :raises nova_snap.exception.NovaSnapError: if that cannot be told or done.
    """
    if not guest.is_active() or guest.backup_socket() is not None:
        return
    if guest.stop_nbd_server():
        LOG.warning("The NBD server of an ended backup job of guest %s was stopped", guest.name)
    if dropped := guest.drop_files(directory):
        LOG.warning("Guest %s had %d block nodes left of a backup job", guest.name, dropped)


class ScratchGuard:
    """Ends a job before its scratch files can fill their file system.

    :param scratches: the files, all of them in one directory.
    :param reserve: bytes that must stay free.
    :param stop: ends the reading and the job; called once, by the guard's thread.
    :ivar error: why the job was ended.
    """

    def __init__(
        self, guest: Guest, scratches: Sequence[str], reserve: int, stop: Callable[[], None]
    ) -> None:
        self._guest = guest
        self._scratches = scratches
        self._reserve = reserve
        self._stop = stop
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="scratch-guard", daemon=True)
        self.error: exception.NovaSnapError | None = None
        self.used = 0

    def check(self) -> None:
        """:raises nova_snap.exception.ScratchFull: if there is not enough room.

        :raises nova_snap.exception.BackupJobFailed: if nobody can tell.
        """
        directory = os.path.dirname(self._scratches[0])
        try:
            free = free_bytes(directory)
        except OSError as exc:
            reason = f"the room for what the guest overwrites is not known: {exc}"
            raise exception.BackupJobFailed(domain=self._guest.name, reason=reason) from exc
        if free < self._reserve:
            raise exception.ScratchFull(
                path=directory,
                free_mib=free // units.Mi,
                reserve_mib=self._reserve // units.Mi,
            )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        # It may be the one that ends the job.
        self._thread.join(2 * self._guest.patience)

    def measure(self) -> int:
        """The most bytes that the scratch files have taken on the host so far."""
        with contextlib.suppress(OSError):
            used = sum(os.stat(scratch).st_blocks * 512 for scratch in self._scratches)
            self.used = max(self.used, used)
        return self.used

    def _run(self) -> None:
        while not self._end.wait(_GUARD_SECONDS):
            self.measure()
            try:
                self.check()
            except exception.NovaSnapError as exc:
                LOG.error("The snapshot of guest %s is ended: %s", self._guest.name, exc)
                self.error = exc
                self._give_way()
                return

    def _give_way(self) -> None:
        try:
            self._stop()
        except exception.NovaSnapError as exc:
            # Whoever leaves the job tries it again.
            LOG.error("The backup job of guest %s still runs: %s", self._guest.name, exc)


def free_bytes(path: str) -> int:
    """Room for a process without privileges in the file system of ``path``."""
    status = os.statvfs(path)
    return status.f_bavail * status.f_frsize


class Job:
    """A backup job, as a context manager: whatever was begun is gone on exit.

    It is entered before it begins, so that who freezes the guest for :meth:`begin` can thaw it
    before a job that went wrong is waited for, and so that the note costs no time in the freeze.

    The NBD clients must be closed before the exit: a QEMU that is told to stop an export while
    requests are in flight may crash (CVE-2024-7409).

    :param directory: of the scratch files.
    :param note: told the socket before there may be a job, and "" when there certainly is none.
    """

    def __init__(
        self,
        guest: Guest,
        xml: str,
        socket: str,
        directory: str,
        note: Callable[[str], None] = lambda _socket: None,
    ) -> None:
        self._guest = guest
        self._xml = xml
        self._socket = socket
        self._directory = directory
        self._note = note
        self._tried = False
        self._certain = True
        self._interruptions = 0

    def __enter__(self) -> Self:
        self._note(self._socket)
        return self

    def begin(self, seconds: float | None = None) -> None:
        """Begin the job: its instant is over when this returns.

        :param seconds: how long it may take; libvirt's other calls' bound if it is not said.
        :raises nova_snap.exception.LibvirtOperationFailed: if it does not begin.
        :raises nova_snap.exception.WaitTimeout: if it does not in time.
        """
        self._interruptions = self._guest.interruptions
        self._tried = True
        try:
            self._guest.begin_backup(self._xml, seconds)
        except exception.WaitTimeout:
            # libvirt may begin it yet, when nobody looks any more. The note stays.
            self._certain = False
            raise

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """:raises nova_snap.exception.BackupJobFailed: if the job does not end."""
        if self._tried:
            end(self._guest, self._socket)
            if self._guest.interruptions != self._interruptions:
                end_rest(self._guest, self._directory)
        if self._certain:
            self._note("")
