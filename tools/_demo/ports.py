# SPDX-License-Identifier: Apache-2.0
"""The TCP ports of the demonstration."""

from __future__ import annotations

import dataclasses
import os
import socket

from tools._demo.errors import PortInvalid, PortsEqual, PortUnusable

NOVA_SNAP = ("NOVA_SNAP_PORT", 8774)
GLANCE = ("GLANCE_PORT", 9292)


@dataclasses.dataclass(frozen=True)
class Ports:
    """Where the two services listen, on 127.0.0.1."""

    nova_snap: int
    glance: int

    @classmethod
    def chosen(cls) -> Ports:
        """From the environment, or else those that OpenStack is used to.

        :raises PortInvalid: if a variable holds no port.
        :raises PortsEqual: if both are the same.
        """
        ports = cls(_from_environment(*NOVA_SNAP), _from_environment(*GLANCE))
        if ports.nova_snap == ports.glance:
            raise PortsEqual([NOVA_SNAP[0], GLANCE[0]], ports.glance)
        return ports

    def require_free(self) -> None:
        """:raises PortUnusable: if one is taken, or needs more rights than there are."""
        _require_free("nova-snap-all", self.nova_snap, NOVA_SNAP[0])
        _require_free("Glance", self.glance, GLANCE[0])


def _from_environment(variable: str, default: int) -> int:
    value = os.environ.get(variable) or str(default)
    if not (value.isascii() and value.isdecimal() and 0 < int(value) < 65536):
        raise PortInvalid(variable, value)
    return int(value)


def _require_free(what: str, port: int, variable: str) -> None:
    with socket.socket() as probe:
        # As the servers do: connections that have ended do not keep a port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise PortUnusable(what, port, variable, error.strerror or str(error)) from error
