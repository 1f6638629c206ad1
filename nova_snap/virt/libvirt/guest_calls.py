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
    :meth:`nova_snap.virt.libvirt.host.Host.call` for how it is bound and what it raises), on
    whichever connection there is: libvirt may be started again between two of them.
    """

    def __init__(self, host: Host, name: str, uuid: str) -> None:
        self._host = host
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
        """:param function: is given the ``virDomain``."""
        return self._host.call(
            operation, self.name, function, seconds, give_up, grace, find=self._find
        )

    def _ask(self, operation: str, function: Callable[[Any], T]) -> T:
        """:meth:`_call` for what changes nothing: see :meth:`Host.ask`."""
        return self._host.ask(
            operation, self.name, lambda connection: function(self._find(connection))
        )

    def _find(self, connection: Any) -> Any:
        return connection.lookupByUUIDString(self.uuid)

    @property
    def interruptions(self) -> int:
        """See :attr:`nova_snap.virt.libvirt.host.Host.interruptions`."""
        return self._host.interruptions

    @property
    def patience(self) -> float:
        """Seconds for which an operation that must not fail is worth trying again."""
        return float(self._host.operation_timeout)
