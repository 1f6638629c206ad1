# SPDX-License-Identifier: Apache-2.0
"""What a snapshot left behind that its process did not live to end is put right."""

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.virt import driver
from nova_snap.virt.libvirt import backup_job, devices, orphans, quiesce, rbd
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.snapshot import ceph_made, copy_job, managed_save, workdir
from nova_snap.virt.libvirt.snapshot.ceph_made import Made
from nova_snap.virt.libvirt.snapshot.workdir import WorkDir

# What Glance's record has while it takes a location, after it has answered.
_IMPORT_LOCK: Final = "os_glance_import_task"
_PAUSE: Final = 0.5

LOG = logging.getLogger(__name__)


class Recovery:
    """Puts guests right and removes leftovers. A step that fails does not keep the others from
    being tried, and the directory stays for the next start."""

    def __init__(self, conf: cfg.ConfigOpts, host: Host, image_api: driver.ImageUploader) -> None:
        self._conf = conf
        self._host = host
        self._image_api = image_api

    def recover(self, instance_uuid: str | None = None) -> Sequence[str]:
        """Recover every snapshot that was cut off.

        :param instance_uuid: only those of this instance.
        :returns: what guests have to do without, in words for the user.
        """
        lost: list[str] = []
        parent: str = self._conf.libvirt.snapshots_directory
        for found in workdir.abandoned(parent, self._conf.host, instance_uuid):
            LOG.warning(
                "A snapshot of instance %s by method %s was cut off; cleaning up after it",
                found.journal.instance_uuid,
                found.journal.method or "none yet",
            )
            done = False
            try:
                # Before the guest, whose disks they may have locked.
                ended = self._try(found, lambda found: orphans.end_all(found.path))
                self._recover(found, lost)
                done = ended
            except Exception:
                # The directories of other instances do not wait for this one.
                LOG.exception("Domain %s is not put right yet", found.journal.domain)
            finally:
                # Who holds its lock keeps everybody else from trying. A program that was left is
                # known by the directory, and by nothing else.
                found.close(keep=not done)
        return lost

    def end_stray_copy(self, guest: Guest) -> None:
        """End a copy into our directory of which there is no journal any more."""
        if not guest.is_active():
            return
        disk = guest.describe().root_disk()
        parent = os.path.join(self._conf.libvirt.snapshots_directory, "")
        mirror = disk.mirror
        if mirror is not None and mirror.job == "copy" and (mirror.path or "").startswith(parent):
            LOG.warning("Ending a stray block copy of guest %s into %s", guest.name, mirror.path)
            copy_job.end_copy(guest, disk.target)

    def _recover(self, found: WorkDir, lost: list[str]) -> None:
        journal = found.journal
        if journal.socket_directory:
            shutil.rmtree(journal.socket_directory, ignore_errors=True)
        self._try(found, self._end_in_ceph)
        if not journal.domain_uuid:
            return
        # First of all: everything else needs the domain, and libvirt forgets it when it stops.
        self._try(found, self._define)
        try:
            guest = self._host.get_guest_by_uuid(journal.domain_uuid)
        except exception.DomainNotFound:
            found.note(
                saving=False, frozen=False, detached=(), asked=(), copying="", backup_socket=""
            )
            return
        except exception.NovaSnapError as exc:
            LOG.error("Domain %s cannot be put right now: %s", journal.domain, exc)
            return
        steps: tuple[Callable[[WorkDir], None], ...] = (
            lambda found: self._thaw(guest, found),
            lambda found: self._end_backup(guest, found),
            lambda found: self._end_copy(guest, found),
            lambda found: lost.extend(self._put_back(guest, found)),
        )
        for step in steps:
            self._try(found, step)

    def _try(self, found: WorkDir, step: Callable[[WorkDir], None]) -> bool:
        try:
            step(found)
        except Exception:
            # Also what nobody foresaw: a guest that is frozen must not stay so for it.
            LOG.exception("Domain %s is not put right yet", found.journal.domain)
            return False
        return True

    def _end_in_ceph(self, found: WorkDir) -> None:
        for facts in found.journal.ceph:
            made = Made(**facts)
            # Its clone may be the image service's by now, and the image's only content.
            keep = bool(made.clone) and self._became_image(made.image_id)
            ceph_made.remove(rbd.Cluster(self._conf, made.access), made, keep_clone=keep)
        found.note(ceph=())

    def _became_image(self, image_id: str) -> bool:
        """:raises nova_snap.exception.NovaSnapError: if that cannot be told yet."""
        context = nova_context.get_admin_context()
        deadline = time.monotonic() + self._conf.glance.timeout
        while True:
            try:
                record = self._image_api.get(context, image_id)
            except exception.ImageNotFound:
                return False
            if record["status"] == "active" or not record.get(_IMPORT_LOCK):
                return bool(record["status"] == "active")
            if time.monotonic() >= deadline:
                what = f"the image service to decide on image {image_id}"
                raise exception.WaitTimeout(what=what, seconds=self._conf.glance.timeout)
            threading.Event().wait(_PAUSE)

    def _define(self, found: WorkDir) -> None:
        journal = found.journal
        if journal.undefined_xml is None:
            return
        copy_job.define_again(self._host, journal.domain, journal.undefined_xml, journal.autostart)
        found.note(undefined_xml=None)

    def _thaw(self, guest: Guest, found: WorkDir) -> None:
        if found.journal.frozen and guest.is_active():
            quiescer = quiesce.Quiescer(self._conf, self._host.capabilities())
            quiescer.thaw(guest)
        found.note(frozen=False)

    def _end_backup(self, guest: Guest, found: WorkDir) -> None:
        if found.journal.backup_socket:
            backup_job.end(guest, found.journal.backup_socket)
            backup_job.end_rest(guest, found.path)
        found.note(backup_socket="")

    def _put_back(self, guest: Guest, found: WorkDir) -> Sequence[str]:
        """What the guest has let go of, it gets back. What it was asked for and still has, it may
        let go of at any time, when it reboots for example: that is asked again later."""
        journal = found.journal
        kept = self._kept(guest, found)
        gone = [each for each in journal.asked if each not in (*kept, *journal.detached)]
        found.note(detached=[*journal.detached, *gone], asked=kept)
        seconds: int = self._conf.libvirt.managed_save_timeout
        return [lost.for_user() for lost in managed_save.put_back(guest, found, seconds)]

    def _kept(self, guest: Guest, found: WorkDir) -> Sequence[Sequence[str]]:
        """Devices that this process of the guest was asked for, and has."""
        asked = found.journal.asked
        if not asked or found.journal.domain_id < 0 or guest.number() != found.journal.domain_id:
            return []
        return devices.still_there(guest, asked)

    def _end_copy(self, guest: Guest, found: WorkDir) -> None:
        journal = found.journal
        # One of before this was noted has that name.
        delta = journal.copying or found.file("delta")
        if journal.disk and guest.is_active():
            mirror = guest.describe().disk(journal.disk).mirror
            if mirror is not None and mirror.path == delta:
                copy_job.end_copy(guest, journal.disk)
        found.note(copying="")
