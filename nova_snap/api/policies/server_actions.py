# SPDX-License-Identifier: Apache-2.0
"""Who may do what to a server that there is. Names and defaults are Nova's."""

from typing import Final

from nova_snap.api.policies import base

START: Final = "os_compute_api:servers:start"
STOP: Final = "os_compute_api:servers:stop"
REBOOT: Final = "os_compute_api:servers:reboot"
PAUSE: Final = "os_compute_api:os-pause-server:pause"
UNPAUSE: Final = "os_compute_api:os-pause-server:unpause"
SUSPEND: Final = "os_compute_api:os-suspend-server:suspend"
RESUME: Final = "os_compute_api:os-suspend-server:resume"
RESET_STATE: Final = "os_compute_api:os-admin-actions:reset_state"
CONSOLE_OUTPUT: Final = "os_compute_api:os-console-output"
FORCE_DELETE: Final = "os_compute_api:os-deferred-delete:force"
RESTORE: Final = "os_compute_api:os-deferred-delete:restore"

_MEMBER = base.PROJECT_MEMBER_OR_ADMIN


def _action(name: str) -> tuple[str, str]:
    return "POST", f"/servers/{{server_id}}/action ({name})"


RULES = [
    base.rule(START, _MEMBER, "Start a server.", _action("os-start")),
    base.rule(STOP, _MEMBER, "Stop a server.", _action("os-stop")),
    base.rule(REBOOT, _MEMBER, "Reboot a server.", _action("reboot")),
    base.rule(PAUSE, _MEMBER, "Pause a server.", _action("pause")),
    base.rule(UNPAUSE, _MEMBER, "Let a paused server go on.", _action("unpause")),
    base.rule(SUSPEND, _MEMBER, "Suspend a server to its host's disk.", _action("suspend")),
    base.rule(RESUME, _MEMBER, "Let a suspended server go on.", _action("resume")),
    base.rule(
        RESET_STATE,
        base.ADMIN,
        "Say what state a server is in, when the service is wrong about it.",
        _action("os-resetState"),
    ),
    base.rule(
        CONSOLE_OUTPUT,
        _MEMBER,
        "Read what a server wrote to its console.",
        _action("os-getConsoleOutput"),
    ),
    base.rule(FORCE_DELETE, _MEMBER, "Delete a server at once.", _action("forceDelete")),
    base.rule(RESTORE, _MEMBER, "Take back that a server was deleted.", _action("restore")),
]
