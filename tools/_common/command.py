# SPDX-License-Identifier: Apache-2.0
"""How a tool's actions are run: signals, errors as what they say, and what is done after one."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import FrameType

from tools._common import processes
from tools._common.errors import Interrupted, NotOurs, ToolError
from tools._common.home import Home
from tools._common.screen import Screen

LOG_LINES = 15

Actions = Mapping[str, Callable[..., int | None]]


def main(tool: str, actions: Actions, argv: Sequence[str]) -> int:
    """Do one of the actions; an error is shown as what it says.

    :returns: the exit code.
    """
    _take_signals()
    try:
        return actions[argv[0]](Home(tool), Screen(), *argv[1:]) or 0
    except Interrupted as interrupted:
        print(f"{tool}: {interrupted}", file=sys.stderr)
        return interrupted.exit_code
    except ToolError as error:
        print(f"{tool}: {error}", file=sys.stderr)
    except PermissionError as error:
        print(f"{tool}: {NotOurs(error.filename)}", file=sys.stderr)
    except Exception as error:
        # From what the tool stands on; its traceback is in the logs.
        print(f"{tool}: {type(error).__name__}: {error}", file=sys.stderr)
    return 1


def go_on(home: Home, package: str, *words: str) -> None:
    """Replace this process by the next action, with the Python of ``.venv``."""
    python = str(home.repository / ".venv/bin/python")
    os.environ.pop(processes.MARK, None)
    os.execv(python, [python, "-m", package, *words])  # noqa: S606


@contextmanager
def cleared_after_failure(
    home: Home, screen: Screen, save_logs: Callable[[], None]
) -> Iterator[None]:
    """Clear the home if the block fails or is interrupted; the logs of a failure stay, and show.

    :param save_logs: brings logs that lie elsewhere to ``home.logs``.
    """
    try:
        yield
    except Exception as error:
        ignore_signals()
        save_logs()
        if not isinstance(error, ToolError):
            (home.logs / f"{home.tool}.log").write_text(traceback.format_exc())
        _show_logs(home, screen)
        home.clear(keep_logs=True)
        raise
    except BaseException:
        ignore_signals()
        screen.say("Interrupted: cleaning up")
        home.clear()
        raise


def ignore_signals() -> None:
    """What clears away is not to be interrupted; all that it waits for is bounded."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def let_no_proxy_in() -> None:
    """Keep the services of this machine from being looked for behind a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        known = os.environ.get(name)
        os.environ[name] = f"{known},127.0.0.1" if known else "127.0.0.1"


def _take_signals() -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise Interrupted(number)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, interrupt)


def _show_logs(home: Home, screen: Screen) -> None:
    for path in sorted(home.logs.iterdir()):
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
        # Most requests are the tool's own looks at the services.
        told = [line for line in lines if not ('"GET ' in line and " status: 200 " in line)]
        screen.say(f"--- the end of {path}, without GET requests that were answered")
        screen.say("\n".join(told[-LOG_LINES:]))
    screen.say(f"--- these logs stay in {home.logs}")
