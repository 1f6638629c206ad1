# SPDX-License-Identifier: Apache-2.0
"""``python -m tools._demo``: ``check``, ``prepare NEXT``, ``run``, ``keep``, ``down``.

``tools/demo`` calls the first two and the last with the system's Python; ``prepare`` goes on to
the action NEXT with that of the virtualenv.
"""

from __future__ import annotations

import functools
import shlex
import sys

from tools._common import command, processes
from tools._common.home import Home
from tools._common.ports import Ports
from tools._common.screen import Screen
from tools._demo.listeners import LISTENERS

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
        Ports(home.tool, LISTENERS).require_free()
        home.require_room()


def prepare(home: Home, screen: Screen, following: str) -> None:
    """Make what the demonstration needs, and go on to it in this same process."""
    from tests.fixtures import glance_venv
    from tests.fixtures.guest.disk import guest_disk
    from tools._common import environment

    others = {"Glance's virtualenv": glance_venv.glance_python, "the guest's disk": guest_disk}
    with home.locked():
        environment.prepare(home, screen, others)
    command.go_on(home, "tools._demo", following)


def run(home: Home, screen: Screen, *, keep: bool = False) -> None:
    """The demonstration; with ``keep``, all but its end."""
    from tools._demo.scenario import Scenario

    with home.locked():
        home.require_down()
        ports = Ports(home.tool, LISTENERS)
        ports.require_free()
        home.make()
        processes.mark(home.path)
        command.let_no_proxy_in()
        scenario: list[Scenario] = []

        def save_logs() -> None:
            for each in scenario:
                each.stage.save_logs()

        with command.cleared_after_failure(home, screen, save_logs):
            scenario.append(Scenario(home, ports, screen))
            guest = scenario[0].run()
            if keep:
                scenario[0].restart(guest)
                home.keep()
        if keep:
            (console,) = scenario[0].stage.consoles
            repository = shlex.quote(str(home.repository))
            screen.say(NEXT.format(repository=repository, console=console))
            return
        command.ignore_signals()
        with screen.step("cleaning up"):
            home.clear()


def down(home: Home, screen: Screen) -> None:
    """End what was kept."""
    with home.locked():
        found = home.clear()
    screen.say("The demo is down." if found else "No demo is up.")


ACTIONS: command.Actions = {
    "check": check,
    "prepare": prepare,
    "run": run,
    "keep": functools.partial(run, keep=True),
    "down": down,
}

if __name__ == "__main__":
    sys.exit(command.main("demo", ACTIONS, sys.argv[1:]))
