# SPDX-License-Identifier: Apache-2.0
"""The calls that start, stop, save and forget a libvirt domain."""

from __future__ import annotations

from typing import Final

import libvirt

from nova_snap import exception
from nova_snap.virt.libvirt.capabilities import Capabilities
from nova_snap.virt.libvirt.guest_calls import DomainCalls

# What goes with a domain that is forgotten for good.
_UNDEFINE_ALL: Final = (
    libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
)


class GuestLife(DomainCalls):
    """The life of a domain."""

    def managed_save(self, seconds: float) -> None:
        """Save the memory to disk and stop; a save that takes too long is aborted.

        :raises nova_snap.exception.WaitTimeout: if it was aborted; the guest goes on then.
        """
        self._call(
            "managedSave",
            lambda dom: dom.managedSave(0),
            seconds,
            give_up=self.abort_job,
            grace=self.patience,
        )

    def launch(self, paused: bool, seconds: float) -> None:
        """Start it, from its saved memory if there is any."""
        flags = libvirt.VIR_DOMAIN_START_PAUSED if paused else 0
        self._call("createWithFlags", lambda dom: dom.createWithFlags(flags), seconds)

    def shut_down(self) -> None:
        """Press the power button: the guest may shut itself down, some time later, or not.

        The agent is not asked: one that hangs would hold this up, and the button as well.
        """
        flags = libvirt.VIR_DOMAIN_SHUTDOWN_ACPI_POWER_BTN
        self._call("shutdownFlags", lambda dom: dom.shutdownFlags(flags))

    def end(self) -> None:
        """End the hypervisor's process; nothing happens if there is none.

        :raises nova_snap.exception.LibvirtOperationFailed: also if the process does not die, being
            held by a disk that does not answer.
        """
        try:
            self._call("destroyFlags", lambda dom: dom.destroyFlags(0))
        except exception.LibvirtOperationFailed as exc:
            # "Domain is not running": it has ended by itself.
            if exc.code != libvirt.VIR_ERR_OPERATION_INVALID:
                raise

    def suspend(self) -> None:
        """Pause it."""
        self._call("suspend", lambda dom: dom.suspend())

    def resume(self) -> None:
        """Let it run on from a pause."""
        self._call("resume", lambda dom: dom.resume())

    def undefine_keeping_state(self, keep_nvram: bool, keep_tpm: bool) -> None:
        """Make a running domain transient.

        Its UEFI variables and its TPM's state stay where they are, for the definition that
        follows. Flags that would also remove a saved memory, snapshots or checkpoints are not
        given: libvirt asks for them only when a domain that does not run is undefined, and then
        refusing is right.
        """
        flags = 0
        if keep_nvram:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_NVRAM
        if keep_tpm:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_KEEP_TPM
        self._call("undefineFlags", lambda dom: dom.undefineFlags(flags))

    def autostart(self) -> bool:
        return bool(self._ask("autostart", lambda dom: dom.autostart()))

    def set_autostart(self, value: bool) -> None:
        self._call("setAutostart", lambda dom: dom.setAutostart(int(value)))

    def drop_managed_save(self) -> None:
        """Remove its saved memory: the next start is a boot."""
        self._call("managedSaveRemove", lambda dom: dom.managedSaveRemove(0))

    def undefine(self, capabilities: Capabilities) -> None:
        """Forget it, with saved memory, UEFI variables, TPM state and metadata of snapshots.

        :param capabilities: of the daemon, which refuses a flag that it does not know.
        """
        # A container has none of it. A daemon without the flag removes a TPM's state by itself,
        # unless the XML has persistent_state.
        flags = 0 if capabilities.hypervisor == "LXC" else _UNDEFINE_ALL
        if flags and capabilities.can_keep_tpm:
            flags |= libvirt.VIR_DOMAIN_UNDEFINE_TPM
        self._call("undefineFlags", lambda dom: dom.undefineFlags(flags))

    # -- its job ------------------------------------------------------------------------------

    def abort_job(self) -> None:
        """Tell the domain's job to end, be it a save or a backup. A backup ends some time later."""
        self._call("abortJob", lambda dom: dom.abortJob())
