# SPDX-License-Identifier: Apache-2.0
"""A guest's memory is saved to disk, its disk is read, and the guest goes on as if nothing was.

The guest is down for as long as the disk takes to be read. What its memory had not written to the
disk yet is not in the image: the image is what a power failure would leave.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import devices
from nova_snap.virt.libvirt.domain_xml import HostDevice
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.snapshot.base import Point, Request, extract_all, files
from nova_snap.virt.libvirt.snapshot.workdir import WorkDir

LOG = logging.getLogger(__name__)

_RESTORE_PAUSE: Final = 1.0


class ManagedSave:
    """For guests that run or are paused. Never for containers, which libvirt cannot save."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Point]:
        """See :meth:`take`."""
        with files(self.take(request), request) as point:
            yield point

    def take(self, request: Request) -> Sequence[str]:
        """The finished files, one for each image.

        :raises nova_snap.exception.DeviceError: if the guest keeps a device of the host.

        :raises nova_snap.exception.UnsafeDisk: before anything is done to the guest.
        :raises nova_snap.exception.WaitTimeout: if saving takes too long.
        """
        # A disk that is refused costs its guest nothing.
        for image in request.images:
            image.backend.chain()
        with self._saved(request):
            request.begin()
            return extract_all(request)

    @contextlib.contextmanager
    def _saved(self, request: Request) -> Iterator[None]:
        guest, workdir = request.guest, request.workdir
        seconds: int = self._conf.libvirt.managed_save_timeout
        try:
            self._detach_pci_devices(request)
            self._detach_sriov_ports(request)
            workdir.note(saving=True)
            guest.managed_save(seconds)
            LOG.info("Guest %s is saved while its disk is read", guest.name)
            yield
        finally:
            for lost in put_back(guest, workdir, seconds):
                request.warn(lost.for_user())

    def _detach_pci_devices(self, request: Request) -> None:
        self._detach(request, devices.pci_devices(request.domain))

    def _detach_sriov_ports(self, request: Request) -> None:
        self._detach(request, devices.sriov_ports(request.domain))

    def _detach(self, request: Request, wanted: Sequence[HostDevice]) -> None:
        workdir = request.workdir
        if not wanted:
            return
        workdir.note(defined=(*workdir.journal.defined, *devices.defined(request.guest, wanted)))
        for device in wanted:
            noted = dataclasses.astuple(device)
            asked = workdir.journal.asked
            workdir.note(asked=(*asked, noted))
            kept = False
            try:
                devices.detach(request.guest, device, self._conf.libvirt.operation_timeout)
            except exception.DeviceKept:
                # It may let go of it yet.
                kept = True
                raise
            finally:
                if not kept:
                    workdir.note(detached=(*workdir.journal.detached, noted), asked=asked)


def put_back(guest: Guest, workdir: WorkDir, seconds: float) -> Sequence[exception.DeviceLost]:
    """Make the guest what the journal says that it was: running or paused, with its devices.

    :param seconds: how long restoring the memory may take.
    :returns: the devices that it has to do without; they stay in the journal, so that the next
        start, or the next snapshot of the instance, tries again.
    :raises nova_snap.exception.NovaSnapError: if the guest could not be started.
    """
    journal = workdir.journal
    if journal.saving:
        _create_domain(guest, paused=journal.power_state == power_state.PAUSED, seconds=seconds)
        workdir.note(saving=False)
    if not journal.detached:
        return []
    # A guest that does not run finds them in its own definition when it is started.
    if not _is_active(guest):
        workdir.note(detached=())
        return []
    lost: list[exception.DeviceLost] = []
    # Network ports last.
    for noted in sorted(journal.detached, key=lambda noted: noted[0] == "sriov"):
        device = HostDevice(*noted)
        if device.address in journal.defined and devices.is_removed(guest, device):
            LOG.info("Device %s was removed from %s meanwhile", device.address, guest.name)
        elif failures := devices.attach(guest, [device]):
            lost += failures
            continue
        # Each by itself: one that the guest has again is its owner's to remove.
        workdir.note(detached=[each for each in workdir.journal.detached if each != noted])
    return lost


def _is_active(guest: Guest) -> bool:
    try:
        return guest.is_active()
    except exception.DomainNotFound:
        return False


def _create_domain(guest: Guest, paused: bool, seconds: float) -> None:
    """Restore a saved guest; one that was not saved after all is left running or paused."""
    deadline = time.monotonic() + guest.patience
    pause = threading.Event()
    while True:
        try:
            _restore(guest, paused, seconds)
            return
        except exception.DomainNotFound:
            LOG.error("Guest %s is not defined any more: it is not restored", guest.name)
            return
        except exception.HypervisorError as exc:
            if time.monotonic() >= deadline:
                LOG.error(
                    "Guest %s could not be restored and is DOWN, or will be. Its memory is kept: "
                    "start it with: virsh start %s. The last error: %s",
                    guest.name, guest.name, exc,
                )  # fmt: skip
                raise
            LOG.warning("Restoring guest %s is tried again: %s", guest.name, exc)
        pause.wait(_RESTORE_PAUSE)


def _restore(guest: Guest, paused: bool, seconds: float) -> None:
    if guest.is_active():
        if guest.is_being_saved():
            # A save that was given up, or whose process died, may succeed yet: the guest is off
            # then, and has nobody to start it again.
            raise exception.StillSaving(domain=guest.name)
        # libvirt pauses a guest while it saves it, and a save that failed may leave it so.
        if not paused and guest.power_state() == power_state.PAUSED:
            guest.resume()
        if guest.has_managed_save():
            # A libvirt that was ended meanwhile leaves a part of it. Whoever looks would take the
            # guest, when it is off, for one that is suspended.
            guest.drop_managed_save()
    elif guest.has_managed_save():
        guest.launch(paused, seconds)
        LOG.info("Guest %s is %s again", guest.name, "paused" if paused else "running")
    else:
        LOG.warning("Guest %s was shut off meanwhile, and stays so", guest.name)
