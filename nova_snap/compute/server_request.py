# SPDX-License-Identifier: Apache-2.0
"""What a client asks for when it asks for new servers."""

import dataclasses
import re
from collections.abc import Mapping
from typing import Final

from nova_snap.objects.flavor import Flavor

_HOSTNAME_LENGTH: Final = 63


@dataclasses.dataclass(frozen=True)
class ServerRequest:
    """New servers, alike but for their names.

    :ivar network: ``none``, ``auto`` for what the host has by default, or the name of one of the
        hypervisor's networks.
    :ivar min_count: fewer than this are not made; up to ``max_count`` are, as the quota allows.
    :ivar return_reservation_id: the client is told which request it was, not which servers.
    :ivar host: the only host to consider.
    """

    name: str
    image_ref: str
    flavor: Flavor
    metadata: Mapping[str, str] = dataclasses.field(default_factory=dict)
    description: str | None = None
    availability_zone: str | None = None
    hostname: str | None = None
    network: str = "auto"
    min_count: int = 1
    max_count: int = 1
    return_reservation_id: bool = False
    key_name: str | None = None
    host: str | None = None
    access_ip_v4: str | None = None
    access_ip_v6: str | None = None
    auto_disk_config: bool = False

    def name_of(self, index: int) -> str:
        """Of several servers each has its number."""
        return f"{self.name}-{index + 1}" if self.max_count > 1 else self.name

    def hostname_of(self, index: int, uuid: str) -> str:
        """What the guest may call itself: as asked for, else made of the server's name."""
        if self.hostname is None:
            return _as_hostname(self.name_of(index)) or f"server-{uuid}"
        return f"{self.hostname}-{index + 1}" if self.max_count > 1 else self.hostname


def _as_hostname(name: str) -> str:
    """The characters of a name that a hostname may have; nothing, if there are none."""
    plain = re.sub(r"[ _]", "-", name.encode("ascii", "ignore").decode())
    kept = re.sub(r"[^A-Za-z0-9.-]+", "", plain).lower()
    return kept.strip(".-")[:_HOSTNAME_LENGTH].strip(".-")
