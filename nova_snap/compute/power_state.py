# SPDX-License-Identifier: Apache-2.0
"""What the hypervisor says of a guest. Numbers and names are Nova's, as the API shows them."""

from typing import Final

NOSTATE: Final = 0x00
RUNNING: Final = 0x01
PAUSED: Final = 0x03
SHUTDOWN: Final = 0x04
CRASHED: Final = 0x06
SUSPENDED: Final = 0x07

NAMES: Final = {
    NOSTATE: "pending",
    RUNNING: "running",
    PAUSED: "paused",
    SHUTDOWN: "shutdown",
    CRASHED: "crashed",
    SUSPENDED: "suspended",
}
