# SPDX-License-Identifier: Apache-2.0
"""A block copy of a disk: started, waited for, ended; and the domain persistent all the while,
or again."""

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from lxml import etree
from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.capabilities import Capabilities
from nova_snap.virt.libvirt.guest import BlockJob, Guest
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.snapshot.workdir import WorkDir

LOG = logging.getLogger(__name__)

_FIRST_POLL: Final = 0.1
_LAST_POLL: Final = 1.0
_STOP_SECONDS: Final = 2.0
_END_ATTEMPTS: Final = 10


def abort_stale_jobs(guest: Guest, target: str, own: str) -> None:
    """End a copy of this disk that nobody waits for any more.

    A copy that is ended leaves the guest's disk as it is. All other jobs are somebody's work, and
    are left alone: a Nova on the same host, say, would take a copy that was ended for complete.

    :param own: the directory of this service's files. What is copied elsewhere is not its own.
    :raises nova_snap.exception.BlockJobFailed: if the disk is busy with somebody else's job.
    """
    job = guest.block_job(target)
    if job is None:
        return
    mirror = guest.describe().disk(target).mirror
    to = "" if mirror is None else mirror.path or "something that is no file"
    # One without a destination has just ended.
    if job.kind != "copy" or not f"{to or own}/".startswith(os.path.join(own, "")):
        reason = f"the disk is busy with a block job of kind {job.kind}; wait until it has ended"
        if job.kind == "copy":
            reason = f"somebody else copies the disk to {to}; wait until that has ended"
        raise exception.BlockJobFailed(domain=guest.name, disk=target, reason=reason)
    LOG.warning("Ending a stale block copy of disk %s of guest %s", target, guest.name)
    end_copy(guest, target)


def end_copy(guest: Guest, target: str) -> None:
    """End the copy, if there is one, and see that it is gone.

    :raises nova_snap.exception.BlockJobFailed: if it cannot be ended.
    """
    error: exception.NovaSnapError | None = None
    pause = threading.Event()
    for _attempt in range(_END_ATTEMPTS):
        try:
            if guest.block_job(target) is None:
                return
            guest.abort_block_job(target)
        except exception.DomainNotFound:
            return
        except exception.LibvirtOperationFailed as exc:
            # What stopped has no jobs.
            if not is_running(guest):
                return
            error = exc
            pause.wait(_LAST_POLL)
        except exception.HypervisorError as exc:
            error = exc
            pause.wait(_LAST_POLL)
    reason = f"the copy does not end: {error}"
    raise exception.BlockJobFailed(domain=guest.name, disk=target, reason=reason)


def is_running(guest: Guest) -> bool:
    """Whether a hypervisor process is there; a transient domain vanishes with it."""
    try:
        return guest.is_active()
    except exception.DomainNotFound:
        return False


def _wait_until_stopped(guest: Guest) -> None:
    deadline = time.monotonic() + _STOP_SECONDS
    pause = threading.Event()
    while is_running(guest) and time.monotonic() < deadline:
        pause.wait(_FIRST_POLL)


class CopyJob:
    """The two ways to have a block copy."""

    def __init__(self, conf: cfg.ConfigOpts, host: Host, capabilities: Capabilities) -> None:
        self._timeout: int = conf.libvirt.block_copy_timeout
        self._bandwidth: int = conf.libvirt.block_copy_bandwidth
        self._host = host
        self._capabilities = capabilities

    def must_be_transient(self, guest: Guest) -> bool:
        """This libvirt copies only disks of domains that it would not have to remember."""
        return not self._capabilities.has_transient_block_copy and guest.is_persistent()

    @contextlib.contextmanager
    def running(
        self, guest: Guest, target: str, destination: chains.Chain, workdir: WorkDir
    ) -> Iterator[None]:
        """Start the copy on entry; on exit it is ended, and the domain as persistent as it was.

        :param destination: the file to copy to, which exists, and its backing files.
        """
        with contextlib.ExitStack() as stack:
            if self.must_be_transient(guest):
                stack.enter_context(self._transient(guest, workdir))
            certain = True
            workdir.note(copying=destination[0].path)

            def end() -> None:
                end_copy(guest, target)
                if certain:
                    workdir.note(copying="")

            # Also after a start that failed: it may have been only late.
            stack.callback(end)
            try:
                self._start(guest, target, destination, workdir)
            except exception.WaitTimeout:
                # It may even begin when nobody looks any more. The note stays.
                certain = False
                raise
            yield

    def _start(
        self, guest: Guest, target: str, destination: chains.Chain, workdir: WorkDir
    ) -> None:
        try:
            if self._capabilities.has_transient_block_copy:
                guest.start_copy(target, destination_xml(destination), self._bandwidth)
            else:
                guest.start_rebase_copy(target, destination[0].path, self._bandwidth)
        except exception.LibvirtOperationFailed as exc:
            # Why QEMU no longer answers is not what libvirt says then.
            _wait_until_stopped(guest)
            if is_running(guest):
                raise
            raise self._vanished(guest, target, workdir) from exc

    @contextlib.contextmanager
    def _transient(self, guest: Guest, workdir: WorkDir) -> Iterator[None]:
        xml = guest.persistent_xml()
        autostart = guest.autostart()
        workdir.note(undefined_xml=xml, autostart=autostart)
        try:
            guest.undefine_keeping_state(
                keep_nvram=self._capabilities.can_keep_nvram,
                keep_tpm=self._capabilities.can_keep_tpm,
            )
            yield
        finally:
            define_again(self._host, guest.name, xml, autostart)
            workdir.note(undefined_xml=None)

    def wait_until_ready(
        self,
        guest: Guest,
        target: str,
        workdir: WorkDir,
        check: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait until the destination holds all that the disk holds, and follows it.

        libvirt's own word counts, not the job's progress: the progress can look complete before
        the copy has begun, and it can stay at nothing for a disk with nothing to copy.

        :param check: called all the while; what it raises ends the wait.
        :raises nova_snap.exception.BlockJobFailed: if the job ends by itself.
        :raises nova_snap.exception.WaitTimeout: after ``[libvirt] block_copy_timeout``.
        """
        deadline = time.monotonic() + self._timeout
        pause = threading.Event()
        interval = _FIRST_POLL
        job: BlockJob | None = None
        while True:
            check()
            try:
                job = guest.block_job(target)
                if job is None:
                    raise self._vanished(guest, target, workdir)
                mirror = guest.describe().disk(target).mirror
                if mirror is not None and mirror.ready:
                    return
            except exception.HypervisorUnavailable as exc:
                # The guest and its copy live on while libvirt's daemon is started again.
                LOG.warning("Waiting for the copy of %s of %s: %s", target, guest.name, exc)
            except (exception.LibvirtOperationFailed, exception.DomainNotFound) as exc:
                # A dying process takes its monitor away before libvirt knows that it is dead.
                _wait_until_stopped(guest)
                raise self._vanished(guest, target, workdir) from exc
            if time.monotonic() >= deadline:
                progress = "" if job is None else f" (it was at {job.current} of {job.end})"
                what = f"the block copy of disk {target} to catch up with the guest{progress}"
                raise exception.WaitTimeout(what=what, seconds=self._timeout)
            pause.wait(min(interval, max(0.0, deadline - time.monotonic())))
            interval = min(interval * 1.5, _LAST_POLL)

    def _vanished(self, guest: Guest, target: str, workdir: WorkDir) -> exception.BlockJobFailed:
        if is_running(guest):
            reason = (
                "it ended before it was ready; there are "
                f"{workdir.free_bytes()} bytes free in {workdir.path}"
            )
        else:
            reason = "the guest stopped while its disk was copied"
        return exception.BlockJobFailed(domain=guest.name, disk=target, reason=reason)


def define_again(host: Host, name: str, xml: str, autostart: bool) -> None:
    """Make a domain persistent again, whether it still runs or not.

    That is tried again for a while: libvirt refuses it as long as it still cleans up after a
    transient domain that has just stopped.

    :raises nova_snap.exception.NovaSnapError: if that fails; the XML is in the log then.
    """
    deadline = time.monotonic() + host.operation_timeout
    pause = threading.Event()
    while True:
        try:
            guest = host.define(xml, name)
            if autostart:
                guest.set_autostart(True)
            return
        except exception.HypervisorError as exc:
            if time.monotonic() >= deadline:
                LOG.exception(
                    "Domain %s could not be defined again and is LOST when it stops. "
                    "Define it from: %s",
                    name,
                    domain_xml.without_secrets(xml, name),
                )
                raise
            LOG.warning("Defining domain %s again is tried again: %s", name, exc)
        pause.wait(_LAST_POLL)


def destination_xml(destination: Sequence[chains.Layer]) -> str:
    """The ``<disk>`` to copy to. The whole chain is named, so that libvirt guesses nothing."""
    top = destination[0]
    disk = etree.Element("disk", type="file")
    etree.SubElement(disk, "driver", name="qemu", type=top.format)
    etree.SubElement(disk, "source", file=top.path)
    parent = disk
    for layer in destination[1:]:
        parent = etree.SubElement(parent, "backingStore", type="file")
        etree.SubElement(parent, "format", type=layer.format)
        etree.SubElement(parent, "source", file=layer.path)
    etree.SubElement(parent, "backingStore")
    return str(etree.tostring(disk, encoding="unicode"))
