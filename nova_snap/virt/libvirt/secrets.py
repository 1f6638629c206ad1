# SPDX-License-Identifier: Apache-2.0
"""Secrets that libvirt keeps, for QEMU's tools.

They are handed over in files that are in memory only: not on a command line, which every user of
the host can read, and not on a disk, which may be thrown away. Such a file has no name. A tool
finds it among those that it was started with, and it is gone when the last process is that has it.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

import libvirt

from nova_snap import exception
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import confinement
from nova_snap.virt.libvirt.domain_disks import SecretReference
from nova_snap.virt.libvirt.host import Host

_USAGE_TYPES: Final = {
    "volume": libvirt.VIR_SECRET_USAGE_TYPE_VOLUME,
    "ceph": libvirt.VIR_SECRET_USAGE_TYPE_CEPH,
}

Lookup = Callable[[SecretReference], bytes]


@dataclasses.dataclass(frozen=True)
class Keys:
    """What a tool needs to read a chain.

    :ivar arguments: for the tool.
    :ivar descriptors: the files that it has to be started with.
    """

    arguments: Sequence[str] = ()
    descriptors: Sequence[int] = ()


NO_KEYS: Final = Keys()


@contextlib.contextmanager
def key_files(
    chain: chains.Chain, lookup: Lookup, user: confinement.User | None = None
) -> Iterator[Keys]:
    """Files with what QEMU's tools need to read the chain, as long as the block lasts.

    :param user: whom the tool runs as.
    :raises nova_snap.exception.SecretUnavailable:
    """
    with contextlib.ExitStack() as files:
        arguments: list[str] = []
        descriptors: list[int] = []
        for name, reference in chains.secrets(chain):
            value = lookup(reference)
            descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
            files.callback(os.close, descriptor)
            os.write(descriptor, value)
            # A tool opens it anew, which is subject to its mode.
            os.fchmod(descriptor, 0o400)
            if user is not None:
                os.fchown(descriptor, user.uid, user.gid)
            descriptors.append(descriptor)
            path = f"/proc/self/fd/{descriptor}"
            arguments += ["--object", f"secret,id={name},file={path}"]
        yield Keys(arguments, descriptors)


def libvirt_lookup(host: Host) -> Lookup:
    """Ask the libvirt that has the domains."""

    def lookup(reference: SecretReference) -> bytes:
        try:
            return host.ask(
                "secretGetValue", "", lambda connection: _value(connection, host.uri, reference)
            )
        except exception.LibvirtOperationFailed as exc:
            raise exception.SecretUnavailable(secret=str(reference), reason=exc.reason) from exc

    return lookup


def _value(connection: Any, uri: str, reference: SecretReference) -> bytes:
    try:
        return _ask(connection, reference)
    except libvirt.libvirtError as exc:
        # A libvirt inside of this process has one driver in a connection.
        if exc.get_error_code() != libvirt.VIR_ERR_NO_SUPPORT or ":///embed" not in uri:
            raise
    return _ask(embedded(uri), reference)


@functools.lru_cache(maxsize=1)
def embedded(uri: str) -> Any:
    """The secrets of a libvirt inside of this process, which opens them once and never again."""
    return libvirt.open(f"secret:{uri.partition(':')[2]}")


def _ask(connection: Any, reference: SecretReference) -> bytes:
    if reference.uuid is not None:
        secret = connection.secretLookupByUUIDString(reference.uuid)
    else:
        secret = connection.secretLookupByUsage(_USAGE_TYPES[reference.kind], reference.usage)
    value: bytes = secret.value()
    return value
