# SPDX-License-Identifier: Apache-2.0
"""How a call is made to a libvirt domain: within a bound, on the connection that there is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from nova_snap.virt.libvirt.host import Host

T = TypeVar("T")


class DomainCalls:
    """A domain.

    Each method of its subclasses is one libvirt call (see
    :meth:`nova_snap.virt.libvirt.host.Host.call` for how it is bound and what it raises). The
    connection may be lost and opened again between two of them.
    """

    def __init__(self, host: Host, domain: Any, name: str, uuid: str) -> None:
        self._host = host
        self._domain = domain
        self.name = name
        self.uuid = uuid

    def __repr__(self) -> str:
        return f"<Guest {self.name} {self.uuid}>"

    def _call(
        self,
        operation: str,
        function: Callable[[Any], T],
        seconds: float | None = None,
        give_up: Callable[[], None] | None = None,
        grace: float = 0.0,
    ) -> T:
        connection = self._host.connection()
        if self._domain.connect() is not connection:
            # The connection that the domain came from is gone, and the domain with it.
            self._domain = self._host.lookup("lookupByUUIDString", self.uuid)
        domain = self._domain
        return self._host.call(
            operation, self.name, lambda: function(domain), seconds, give_up, grace
        )

    @property
    def patience(self) -> float:
        """Seconds for which an operation that must not fail is worth trying again."""
        return float(self._host.operation_timeout)
