# SPDX-License-Identifier: Apache-2.0
"""Devices of the host are taken from a guest before its memory is saved, and given back after.

A guest's memory cannot be saved while it uses a device of the host whose state nobody can save.
"""

import threading
import time
from collections.abc import Sequence
from typing import Final

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
    :raises nova_snap.exception.DeviceError: if it keeps the device.
    """
    LOG.info("Detaching %s device %s from %s", device.kind, device.address, guest.name)
    try:
        guest.detach_device(device.xml)
        _wait_until_gone(guest, device, seconds)
    except exception.HypervisorError as exc:
        raise _error(guest, device, "detach", exc) from exc


def _wait_until_gone(guest: Guest, device: HostDevice, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    pause = threading.Event()
    while domain_xml.device_exists(guest.xml(), device, guest.name):
        if time.monotonic() >= deadline:
            what = "the guest to release the device"
            raise exception.WaitTimeout(what=what, seconds=seconds)
        pause.wait(_POLL_SECONDS)


def attach(guest: Guest, devices: Sequence[HostDevice]) -> list[exception.DeviceError]:
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
            failure = _error(guest, device, "attach", exc)
            LOG.error(
                "%s The guest runs WITHOUT this device; attach it by hand: %s", failure, device.xml
            )
            failures.append(failure)
        else:
            LOG.info("Attached %s device %s to %s", device.kind, device.address, guest.name)
    return failures


def _error(
    guest: Guest, device: HostDevice, operation: str, cause: exception.NovaSnapError
) -> exception.DeviceError:
    return exception.DeviceError(
        domain=guest.name,
        device=device.address,
        operation=operation,
        reason=getattr(cause, "reason", None) or str(cause),
    )
