# SPDX-License-Identifier: Apache-2.0
"""What the bodies of ``POST /servers/{server_id}/action`` look like.

An action without a schema here takes any value, as in Nova: clients send ``null``, or ``{}``.
"""

from typing import Final

from nova_snap.api.schemas.types import closed

REBOOT: Final = closed(
    {"reboot": closed({"type": {"enum": ["HARD", "Hard", "hard", "SOFT", "Soft", "soft"]}})}
)

RESET_STATE: Final = closed({"os-resetState": closed({"state": {"enum": ["active", "error"]}})})

CONSOLE_OUTPUT: Final = closed(
    {
        "os-getConsoleOutput": closed(
            {
                "length": {
                    "type": ["integer", "string", "null"],
                    "pattern": r"^(-1|[0-9]{1,10})$(?!\n)",
                    "minimum": -1,
                }
            },
            required=[],
        )
    }
)
