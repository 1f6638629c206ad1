# SPDX-License-Identifier: Apache-2.0
"""The TCP ports of what a tool starts."""

from __future__ import annotations

import dataclasses
import os
import socket
from collections.abc import Sequence

from tools._common.errors import PortInvalid, PortsEqual, PortUnusable


@dataclasses.dataclass(frozen=True)
class Listener:
    """A service that listens on 127.0.0.1, and the environment variable that holds its port."""

    name: str
    variable: str
    default: int


class Ports:
    """The ports of a tool's services, from the environment, or those that OpenStack is used to.

    :raises PortInvalid: if a variable holds no port.
    :raises PortsEqual: if two are the same.
    """

    def __init__(self, tool: str, listeners: Sequence[Listener]) -> None:
        self._tool = tool
        self._ports = {each: _from_environment(each) for each in listeners}
        for port in self._ports.values():
            same = [each.variable for each, other in self._ports.items() if other == port]
            if len(same) > 1:
                raise PortsEqual(same, port)

    def __getitem__(self, listener: Listener) -> int:
        return self._ports[listener]

    def require_free(self) -> None:
        """:raises PortUnusable: if one is taken, or needs more rights than there are."""
        for listener, port in self._ports.items():
            with socket.socket() as probe:
                # As the servers do: connections that have ended do not keep a port.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    reason = error.strerror or str(error)
                    raise PortUnusable(
                        self._tool, listener.name, port, listener.variable, reason
                    ) from error


def _from_environment(listener: Listener) -> int:
    value = os.environ.get(listener.variable) or str(listener.default)
    if not (value.isascii() and value.isdecimal() and 0 < int(value) < 65536):
        raise PortInvalid(listener.variable, value)
    return int(value)
