# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, in words for whoever runs the demonstration."""

from __future__ import annotations

import signal
from pathlib import Path


class DemoError(Exception):
    """Something that the demonstration cannot go on from."""


class PortInvalid(DemoError):
    """An environment variable does not hold a port."""

    def __init__(self, variable: str, value: str) -> None:
        super().__init__(f"{variable} is {value!r}; it must be a TCP port, 1 to 65535")


class PortsEqual(DemoError):
    """Two services cannot have the same port."""

    def __init__(self, variables: list[str], port: int) -> None:
        super().__init__(f"{' and '.join(variables)} are both {port}; set one of them to another")


class PortUnusable(DemoError):
    """A service could not listen at its port."""

    def __init__(self, what: str, port: int, variable: str, reason: str) -> None:
        super().__init__(
            f"{what} cannot listen at port {port} of 127.0.0.1: {reason}. Set {variable} to "
            f"another port, as in: {variable}={port + 10000 if port < 55536 else 18774} tools/demo"
        )


class NoRoom(DemoError):
    """A file system is too full."""

    def __init__(self, path: Path, free: int, needed: int) -> None:
        super().__init__(
            f"{path} has {free >> 20} MiB of free space; the demo needs {needed >> 20} MiB there"
        )


class AlreadyUp(DemoError):
    """A demonstration was left up by ``--keep``."""

    def __init__(self, clouds: Path) -> None:
        super().__init__(
            f"a demo is up already; use it with OS_CLIENT_CONFIG_FILE={clouds}, "
            "or end it with tools/demo --down"
        )


class StillRunning(DemoError):
    """Another process runs the demonstration of this repository."""

    def __init__(self) -> None:
        super().__init__(
            "another tools/demo is at work in this repository; wait for it, or interrupt it"
        )


class NotOurs(DemoError):
    """Files or processes of another user are in the way."""

    def __init__(self, what: object) -> None:
        super().__init__(
            f"no permission for {what}; run tools/demo as the user who ran it before, or as root"
        )


class PreparationFailed(DemoError):
    """Something that the demonstration needs could not be made."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} could not be made: {reason}")


class CommandRefused(DemoError):
    """A command ended with an error, or did not end."""

    def __init__(self, command: str, outcome: str, printed: str) -> None:
        super().__init__(f"{command}: {outcome}\n{printed.strip()[-4000:]}")


class ServiceLost(DemoError):
    """A service that was there does not answer any more."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name} does not answer as it should: {reason}")


class TookTooLong(DemoError):
    """Something was waited for in vain."""

    def __init__(self, what: str, seconds: float, seen: str) -> None:
        super().__init__(f"{what} took more than {seconds:.0f} s; seen last: {seen}")


class SnapshotFailed(DemoError):
    """nova_snap could not take a snapshot; the reason is what it has on record."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"snapshot {name} failed: {reason}")


class CheckFailed(DemoError):
    """An image, or a guest made from one, is not what it should be."""

    def __init__(self, what: str, found: str) -> None:
        super().__init__(f"check failed: {what}: {found}")


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end; the exit code is what a shell expects of that."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted ({signal.Signals(number).name})")
        self.exit_code = 128 + number
