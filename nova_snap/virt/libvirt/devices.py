# SPDX-License-Identifier: Apache-2.0
"""Devices of the host are taken from a guest before its memory is saved, and given back after.

A guest's memory cannot be saved while it uses a device of the host whose state nobody can save.
"""

import threading
import time
from collections.abc import Sequence
from typing import Final, TypeVar

from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.domain_xml import HostDevice
from nova_snap.virt.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.2


def pci_devices(domain: domain_xml.Domain) -> Sequence[HostDevice]:
    """The devices to detach, network ports aside."""
    return [device for device in domain.host_devices if device.kind in ("pci", "mdev")]


def sriov_ports(domain: domain_xml.Domain) -> Sequence[HostDevice]:
    """The network ports to detach."""
    return [device for device in domain.host_devices if device.kind == "sriov"]


def detach(guest: Guest, device: HostDevice, seconds: float) -> None:
    """Take a device from a running guest, and wait until the guest has let go of it.

    :param seconds: how long the guest may take.
    :raises nova_snap.exception.DeviceError: if the guest does not have it any more in the end
        (it was shut off), or libvirt refuses.
    :raises nova_snap.exception.DeviceKept: if the guest has not let go of it in time. It was
        asked, and may do so at any time from then on, when it reboots for example.
    """
    LOG.info("Detaching %s device %s from %s", device.kind, device.address, guest.name)
    try:
        guest.detach_device(device.xml)
        gone = _wait_until_gone(guest, device, seconds)
    except exception.WaitTimeout:
        # libvirt has asked the guest before it began to wait.
        gone = False
    except exception.NovaSnapError as exc:
        raise _error(exception.DeviceError, guest, device, exc) from exc
    if not gone:
        raise exception.DeviceKept(domain=guest.name, device=device.address, seconds=seconds)


def _wait_until_gone(guest: Guest, device: HostDevice, seconds: float) -> bool:
    """:returns: whether it is gone."""
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while domain_xml.device_exists(guest.xml(), device, guest.name):
        # What is shown then is the definition, which nothing was taken from.
        if not guest.is_active():
            raise exception.DeviceError(
                domain=guest.name,
                device=device.address,
                operation="detach",
                reason="the guest was shut off meanwhile",
            )
        if time.monotonic() >= deadline:
            return False
        pause.wait(_POLL_SECONDS)
    return True


def still_there(guest: Guest, noted: Sequence[Sequence[str]]) -> list[Sequence[str]]:
    """Those that the guest has.

    :param noted: kind, address and XML of each.
    """
    xml = guest.xml()
    return [each for each in noted if domain_xml.device_exists(xml, HostDevice(*each), guest.name)]


def defined(guest: Guest, devices: Sequence[HostDevice]) -> list[str]:
    """Addresses of those that the guest's definition has, which is what its owner wants it to
    have. None is known of a guest that is defined only as long as it runs."""
    if not guest.is_persistent():
        return []
    xml = guest.persistent_xml()
    return [each.address for each in devices if domain_xml.device_exists(xml, each, guest.name)]


def is_removed(guest: Guest, device: HostDevice) -> bool:
    """Whether somebody has taken a device out of the guest's definition, which had it.

    :returns: ``False`` as well if that cannot be told.
    """
    try:
        return guest.is_persistent() and not defined(guest, [device])
    except exception.NovaSnapError as exc:
        LOG.warning("Whether %s is to have device %s: %s", guest.name, device.address, exc)
        return False


def attach(guest: Guest, devices: Sequence[HostDevice]) -> list[exception.DeviceLost]:
    """Give devices back to a guest: as many as possible.

    :returns: what went wrong; each of it is logged as an error here.
    """
    failures = []
    for device in devices:
        try:
            if domain_xml.device_exists(guest.xml(), device, guest.name):
                continue
            guest.attach_device(device.xml)
        except exception.NovaSnapError as exc:
            failure = _error(exception.DeviceLost, guest, device, exc)
            LOG.error(
                "%s The guest runs WITHOUT this device; put into a file and attach it by hand, "
                "with: virsh attach-device %s FILE --live: %s",
                failure, guest.name, device.xml,
            )  # fmt: skip
            failures.append(failure)
        else:
            LOG.info("Attached %s device %s to %s", device.kind, device.address, guest.name)
    return failures


E = TypeVar("E", bound=exception.DeviceError)


def _error(kind: type[E], guest: Guest, device: HostDevice, cause: exception.NovaSnapError) -> E:
    if isinstance(cause, kind):
        return cause
    return kind(
        domain=guest.name,
        device=device.address,
        operation="detach",
        reason=getattr(cause, "reason", None) or str(cause),
    )
