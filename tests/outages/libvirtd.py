# SPDX-License-Identifier: Apache-2.0
"""libvirt's daemon as what is killed: its guests and their jobs live on."""

from __future__ import annotations

from typing import Any

from tests.fixtures.libvirtd import LibvirtdLab
from tests.fixtures.service_process import ServiceProcess
from tests.outages.victims import ServerProcess


class Libvirtd(ServerProcess):
    """The libvirtd that has an :class:`OutageWorld`'s guests."""

    name = "libvirtd"

    def __init__(self, world: Any) -> None:
        self._lab: LibvirtdLab = world.lab

    @property
    def service(self) -> ServiceProcess:
        return self._lab.daemon

    def start(self) -> None:
        self._lab.start()
