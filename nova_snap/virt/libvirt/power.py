# SPDX-License-Identifier: Apache-2.0
"""A guest is started, stopped, rebooted, paused and saved."""

import time
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.2

# A guest that boots does not listen to its power button yet.
PRESS_AGAIN_SECONDS: Final = 10.0


class Power:
    """What is done with the guests of a host."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def on(self, guest: Guest) -> None:
        """Start a guest, from its saved memory if there is any; one that runs is left alone."""
        if guest.is_active():
            return
        guest.launch(paused=False, seconds=self._start_seconds(guest))

    def off(self, guest: Guest, timeout: float) -> None:
        """Stop a guest.

        :param timeout: seconds that it has to shut itself down; 0 is none.
        """
        if guest.is_active() and not self._shut_down(guest, timeout):
            guest.end()

    def reboot(self, guest: Guest, hard: bool, timeout: float) -> None:
        """Have a guest boot, ended before that by itself or, if it takes too long, from outside.

        :param timeout: seconds that it has to shut itself down.
        """
        if hard or not self._shut_down(guest, timeout):
            if not hard:
                LOG.warning("Guest %s is rebooted hard", guest.name)
            guest.end()
        if guest.has_managed_save():
            guest.drop_managed_save()
        if guest.is_active():
            # It has rebooted by itself after all, or somebody else was faster.
            return
        guest.launch(paused=False, seconds=self._start_seconds(guest))

    def pause(self, guest: Guest) -> None:
        """Stop its CPUs."""
        guest.suspend()

    def unpause(self, guest: Guest) -> None:
        """Let it run on."""
        guest.resume()

    def suspend(self, guest: Guest) -> None:
        """Save its memory to disk."""
        guest.managed_save(self._conf.libvirt.managed_save_timeout)

    def resume(self, guest: Guest) -> None:
        """Let it run on from its saved memory, also if it was paused before that."""
        if not guest.is_active():
            guest.launch(paused=False, seconds=self._start_seconds(guest))
        if guest.power_state() == power_state.PAUSED:
            guest.resume()

    def _start_seconds(self, guest: Guest) -> float:
        if guest.has_managed_save():
            return float(self._conf.libvirt.managed_save_timeout)
        return guest.patience

    def _shut_down(self, guest: Guest, timeout: float) -> bool:
        """Ask a guest to shut itself down, again and again.

        :returns: whether it has.
        """
        until = time.monotonic() + timeout
        press = time.monotonic()
        while time.monotonic() < until:
            if not guest.is_active():
                return True
            # A guest that is paused cannot do anything.
            if guest.power_state() == power_state.PAUSED:
                return False
            if time.monotonic() >= press:
                self._press(guest)
                press += PRESS_AGAIN_SECONDS
            time.sleep(POLL_SECONDS)
        return not guest.is_active()

    def _press(self, guest: Guest) -> None:
        try:
            guest.shut_down()
        except exception.LibvirtOperationFailed as exc:
            # It has just ended, or has no power button: the time will tell.
            LOG.debug("Guest %s was not asked to shut down: %s", guest.name, exc)
