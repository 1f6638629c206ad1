# SPDX-License-Identifier: Apache-2.0
"""The host of the crash matrix, with a service that runs on, and a way to break its uploads."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any, ClassVar

from tests.crash import world
from tests.crash.scenarios import Scenario
from tests.fixtures.proxy import BreakingProxy


class World(world.World):
    """See :class:`tests.crash.world.World`.

    :ivar proxy: between the service and Glance.
    :ivar temporary: what the service takes for /tmp.
    """

    program: ClassVar[str] = "tests.soak.service"

    def enter_more(self, stack: contextlib.ExitStack) -> None:
        """Start the proxy."""
        self.proxy = stack.enter_context(BreakingProxy(self.glance.port))
        self.temporary = self.directory / "tmp"
        self.temporary.mkdir()

    def settings(self, scenario: Scenario) -> dict[str, dict[str, Any]]:
        """The configuration, without the limit that makes a snapshot easy to hit."""
        settings = super().settings(scenario)
        # oslo.messaging starts one more thread with each message until its pool is full, and 64 are
        # too many for a warm-up.
        settings["DEFAULT"]["executor_thread_pool_size"] = 8
        settings["glance"] |= {"api_servers": self.proxy.url, "retry_interval": 0.1}
        settings["libvirt"]["snapshot_bandwidth"] = 0
        return settings

    def environment(self) -> Mapping[str, str]:
        """Whatever the service leaves in a temporary directory is found, and no thread keeps for
        itself what was freed, which the C library would count as in use."""
        no_caches = "glibc.malloc.tcache_count=0"
        return {"TMPDIR": str(self.temporary), "GLIBC_TUNABLES": no_caches}

    def make_guests(self) -> None:
        """One more, whose QEMU is another after each of its snapshots."""
        super().make_guests()
        base = self.glance.client(world.USER, world.PROJECT).images.create(name="base of saved")
        self.guests["saved"] = self.define("saved", base["id"])
        self.guests["saved"].start(paused=True)
