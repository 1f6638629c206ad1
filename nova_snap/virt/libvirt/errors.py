# SPDX-License-Identifier: Apache-2.0
"""libvirt's errors become nova_snap's: nothing outside of this room sees a ``libvirtError``."""

import libvirt

from nova_snap import exception

_CONNECTION_LOST = {
    libvirt.VIR_ERR_SYSTEM_ERROR,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_RPC,
    libvirt.VIR_ERR_NO_CONNECT,
}
_CONNECTION_LAYERS = {libvirt.VIR_FROM_REMOTE, libvirt.VIR_FROM_RPC}


def is_connection_lost(error: libvirt.libvirtError, alive: bool = False) -> bool:
    """The daemon is gone, or the way to it is: the operation itself may be all right.

    :param alive: the connection is still open; then a socket that fails is that of another daemon,
        which libvirt itself needed, such as the one for networks.
    """
    if error.get_error_code() == libvirt.VIR_ERR_INVALID_CONN:
        return True
    if alive and error.get_error_code() == libvirt.VIR_ERR_SYSTEM_ERROR:
        return False
    return (
        error.get_error_domain() in _CONNECTION_LAYERS
        and error.get_error_code() in _CONNECTION_LOST
    )


def translate(
    error: libvirt.libvirtError, operation: str, domain: str, uri: str, alive: bool = False
) -> exception.NovaSnapError:
    """The error to raise instead.

    :param operation: libvirt's name of the call.
    :param alive: see :func:`is_connection_lost`.
    """
    reason = error.get_error_message() or str(error)
    if is_connection_lost(error, alive):
        return exception.HypervisorUnavailable(uri=uri, reason=reason)
    if error.get_error_code() == libvirt.VIR_ERR_NO_DOMAIN:
        return exception.DomainNotFound(domain=domain)
    return exception.LibvirtOperationFailed(
        operation=operation, domain=domain, code=error.get_error_code(), reason=reason
    )
