# SPDX-License-Identifier: Apache-2.0
"""``python -m tools._demo``: ``check``, ``prepare NEXT``, ``run``, ``keep``, ``down``.

``tools/demo`` calls the first two and the last with the system's Python; ``prepare`` goes on to
the action NEXT with that of the virtualenv.
"""

from __future__ import annotations

import functools
import os
import shlex
import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType

from tools._demo import processes
from tools._demo.errors import DemoError, Interrupted, NotOurs
from tools._demo.home import Home
from tools._demo.ports import Ports
from tools._demo.screen import Screen

LOG_LINES = 15

NEXT = """
It stays up. To look at it:

    cd {repository}
    export OS_CLIENT_CONFIG_FILE=.demo/clouds.yaml OS_CLOUD=demo PATH="$PWD/.venv/bin:$PATH"
    openstack server list
    openstack server show web
    openstack server image create --wait --name mine web
    openstack image list
    openstack image save --file mine.qcow2 mine

How a snapshot gets on, from a second terminal:

    watch -n 1 openstack server show web -c OS-EXT-STS:task_state -c progress
    tail -f .demo/logs/nova-snap-all.log

What nova_snap knows, and what the guest has printed:

    nova-snap-manage --config-file .demo/nova-snap.conf instance list
    cat {console}

The end:

    tools/demo --down"""


def check(home: Home, screen: Screen) -> None:
    """Find out early what would be in the way."""
    with home.locked():
        if home.require_down():
            screen.say("Cleared away what a demo that was killed had left.")
        Ports.chosen().require_free()
        home.require_room()


def prepare(home: Home, screen: Screen, following: str) -> None:
    """Make what the demonstration needs, and go on to it in this same process."""
    from tools._demo.environment import prepare

    with home.locked():
        prepare(home, screen)
    python = str(home.repository / ".venv/bin/python")
    os.environ.pop(processes.MARK)
    os.execv(python, [python, "-m", "tools._demo", following])  # noqa: S606


def run(home: Home, screen: Screen, *, keep: bool = False) -> None:
    """The demonstration; with ``keep``, all but its end."""
    from tools._demo.scenario import Scenario

    with home.locked():
        home.require_down()
        ports = Ports.chosen()
        ports.require_free()
        home.make()
        processes.mark(home.path)
        _let_no_proxy_in()
        scenario = None
        try:
            scenario = Scenario(home, ports, screen)
            guest = scenario.run()
            if keep:
                scenario.restart(guest)
                home.keep()
        except Exception as error:
            _ignore_signals()
            if scenario is not None:
                scenario.stage.save_logs()
            if not isinstance(error, DemoError):
                (home.logs / "demo.log").write_text(traceback.format_exc())
            _show_logs(home, screen)
            home.clear(keep_logs=True)
            raise
        except BaseException:
            _ignore_signals()
            screen.say("Interrupted: cleaning up")
            home.clear()
            raise
        if keep:
            (console,) = scenario.stage.consoles
            repository = shlex.quote(str(home.repository))
            screen.say(NEXT.format(repository=repository, console=console))
            return
        _ignore_signals()
        with screen.step("cleaning up"):
            home.clear()


def down(home: Home, screen: Screen) -> None:
    """End what was kept."""
    with home.locked():
        found = home.clear()
    screen.say("The demo is down." if found else "No demo is up.")


ACTIONS: dict[str, Callable[..., None]] = {
    "check": check,
    "prepare": prepare,
    "run": run,
    "keep": functools.partial(run, keep=True),
    "down": down,
}


def main(argv: list[str]) -> int:
    """Do one of the actions; an error is shown as what it says."""
    screen = Screen()
    _take_signals()
    try:
        ACTIONS[argv[0]](Home(), screen, *argv[1:])
    except Interrupted as interrupted:
        print(f"demo: {interrupted}", file=sys.stderr)
        return interrupted.exit_code
    except DemoError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except PermissionError as error:
        print(f"demo: {NotOurs(error.filename)}", file=sys.stderr)
        return 1
    except Exception as error:
        # From what the demonstration stands on; its traceback is in the logs.
        print(f"demo: {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


def _take_signals() -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001
        raise Interrupted(number)

    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # nohup
        signal.signal(signal.SIGHUP, interrupt)


def _ignore_signals() -> None:
    """What clears away is not to be interrupted; all that it waits for is bounded."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def _let_no_proxy_in() -> None:
    """Keep the services of this machine from being looked for behind a proxy."""
    for name in ("no_proxy", "NO_PROXY"):
        known = os.environ.get(name)
        os.environ[name] = f"{known},127.0.0.1" if known else "127.0.0.1"


def _show_logs(home: Home, screen: Screen) -> None:
    for path in sorted(home.logs.iterdir()):
        lines = path.read_bytes().decode("utf-8", "replace").splitlines()
        # Most requests are the demonstration's own looks at the server.
        told = [line for line in lines if not ('"GET ' in line and " status: 200 " in line)]
        screen.say(f"--- the end of {path}, without GET requests that were answered")
        screen.say("\n".join(told[-LOG_LINES:]))
    screen.say(f"--- these logs stay in {home.logs}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
