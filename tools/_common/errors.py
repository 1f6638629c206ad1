# SPDX-License-Identifier: Apache-2.0
"""What can go wrong, in words for whoever runs a tool."""

from __future__ import annotations

import signal
from pathlib import Path


class ToolError(Exception):
    """Something that a tool cannot go on from."""


class PortInvalid(ToolError):
    """An environment variable does not hold a port."""

    def __init__(self, variable: str, value: str) -> None:
        super().__init__(f"{variable} is {value!r}; it must be a TCP port, 1 to 65535")


class PortsEqual(ToolError):
    """Two services cannot have the same port."""

    def __init__(self, variables: list[str], port: int) -> None:
        super().__init__(f"{' and '.join(variables)} are both {port}; set one of them to another")


class PortUnusable(ToolError):
    """A service could not listen at its port."""

    def __init__(self, tool: str, what: str, port: int, variable: str, reason: str) -> None:
        other = port + 10000 if port < 55536 else 18774
        super().__init__(
            f"{what} cannot listen at port {port} of 127.0.0.1: {reason}. Set {variable} to "
            f"another port, as in: {variable}={other} tools/{tool}"
        )


class NoRoom(ToolError):
    """A file system is too full."""

    def __init__(self, tool: str, path: Path, free: int, needed: int) -> None:
        super().__init__(
            f"{path} has {free >> 20} MiB of free space; the {tool} needs {needed >> 20} MiB there"
        )


class AlreadyUp(ToolError):
    """What the tool starts was left up."""

    def __init__(self, tool: str, clouds: Path) -> None:
        super().__init__(
            f"a {tool} is up already; use it with OS_CLIENT_CONFIG_FILE={clouds}, "
            f"or end it with tools/{tool} --down"
        )


class StillRunning(ToolError):
    """Another process runs the tool of this repository."""

    def __init__(self, tool: str) -> None:
        super().__init__(
            f"another tools/{tool} is at work in this repository; wait for it, or interrupt it"
        )


class NotOurs(ToolError):
    """Files or processes of another user are in the way."""

    def __init__(self, what: object) -> None:
        super().__init__(
            f"no permission for {what}; run this as the user who ran it before, or as root"
        )


class PreparationFailed(ToolError):
    """Something that the tool needs could not be made."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"{what} could not be made: {reason}")


class CommandRefused(ToolError):
    """A command ended with an error, or did not end."""

    def __init__(self, command: str, outcome: str, printed: str) -> None:
        super().__init__(f"{command}: {outcome}\n{printed.strip()[-4000:]}")


class TookTooLong(ToolError):
    """Something was waited for in vain."""

    def __init__(self, what: str, seconds: float, seen: str) -> None:
        super().__init__(f"{what} took more than {seconds:.0f} s; seen last: {seen}")


class Interrupted(KeyboardInterrupt):
    """A signal asked for the end; the exit code is what a shell expects of that."""

    def __init__(self, number: int) -> None:
        super().__init__(f"interrupted ({signal.Signals(number).name})")
        self.exit_code = 128 + number
