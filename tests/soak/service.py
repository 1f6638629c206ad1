# SPDX-License-Identifier: Apache-2.0
"""A real service that takes other options while it runs, and tells what it holds:
``python -m tests.soak.service COMMAND OPTIONS``.

One process has to take all of the snapshots, and an operator's would be started anew for another
``[libvirt] snapshot_method``. COMMAND, OPTIONS and the socket are as :mod:`tests.crash.victim` has
them; nothing of the service is replaced.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import os
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import libvirt
from oslo_config import cfg

import nova_snap.cmd  # noqa: F401 - chooses the backend of oslo.service
from tests.crash import victim
from tests.fixtures import libvirt_ops
from tests.fixtures.probe import Probe, Step


class Settings:
    """The options of this process."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._changed: list[tuple[str, str]] = []

    def change(self, options: Mapping[str, Mapping[str, Any]]) -> None:
        """Take these, by group, and those of the configuration file for all others."""
        for group, name in self._changed:
            self._conf.clear_override(name, group)
        self._changed = [(group, name) for group, values in options.items() for name in values]
        for group, name in self._changed:
            self._conf.set_override(name, options[group][name], group)


class _Mallinfo(ctypes.Structure):
    """``struct mallinfo2`` of glibc 2.33: see mallinfo(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd",
            "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def memory() -> dict[str, int]:
    """What is in use, without what only waits for the garbage collector.

    :returns: ``objects``, the count of what Python's own allocator has given out, and ``heap``,
        bytes that the C library's has, libvirt's and other libraries' among them.
    """
    gc.collect()
    mallinfo = ctypes.CDLL(None).mallinfo2
    mallinfo.restype = _Mallinfo
    found = mallinfo()
    return {"objects": sys.getallocatedblocks(), "heap": found.uordblks + found.hblkhd}


def threads() -> list[str]:
    """The names of Python's threads."""
    return sorted(thread.name for thread in threading.enumerate())


def hypervisor(connection: libvirt.virConnect, name: str) -> dict[str, int]:
    """What a guest's QEMU has of each that a snapshot makes in it: how many block nodes, jobs,
    exports and objects (such as secrets)."""
    asked: dict[str, tuple[str, dict[str, Any]]] = {
        "nodes": ("query-named-block-nodes", {"flat": True}),
        "jobs": ("query-jobs", {}),
        "exports": ("query-block-exports", {}),
        "objects": ("qom-list", {"path": "/objects"}),
    }
    return {
        what: len(
            libvirt_ops.monitor(connection, name, {"execute": command, "arguments": more})["return"]
        )
        for what, (command, more) in asked.items()
    }


def main() -> int:
    """Run the service."""
    directory = Path(os.environ[victim.DIRECTORY_ENV])
    command = sys.argv.pop(1)
    # It is the one that a service registers its options in.
    settings = Settings(cfg.CONF)  # noqa: TID251
    steps: dict[str, Step] = {**victim.STEPS, "hypervisor": hypervisor}
    own: dict[str, Step] = {"change": settings.change, "memory": memory, "threads": threads}
    Probe(directory / victim.SOCKET, os.environ[victim.URI_ENV], steps, own).start()
    module = importlib.import_module(f"nova_snap.cmd.{command.rpartition('-')[2]}")
    return int(module.main())


if __name__ == "__main__":
    sys.exit(main())
