# SPDX-License-Identifier: Apache-2.0
"""``python -m tools._cloud``: ``check``, ``prepare``, ``up``, ``down``, ``status``.

``tools/cloud`` calls all but ``up`` with the system's Python; ``prepare`` goes on to that with the
one of the virtualenv.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from typing import TYPE_CHECKING

from tools._cloud.listeners import GLANCE, KEYSTONE, LISTENERS, NOVA_SNAP
from tools._cloud.state import Service
from tools._cloud.words import TO_TRY
from tools._common import command, processes
from tools._common.home import Home
from tools._common.ports import Ports
from tools._common.screen import Screen

if TYPE_CHECKING:
    from tests.fixtures.cloud import Cloud


def check(home: Home, screen: Screen) -> None:
    """Find out early what would be in the way."""
    with home.locked():
        if home.require_down():
            screen.say("Cleared away what a cloud that was killed had left.")
        Ports(home.tool, LISTENERS).require_free()
        home.require_room()


def prepare(home: Home, screen: Screen) -> None:
    """Make what the cloud needs, and go on to start it in this same process."""
    from tests.fixtures import glance_venv, keystone_venv
    from tests.fixtures.guest.disk import guest_disk
    from tools._common import environment

    others = {
        "Keystone's virtualenv": keystone_venv.VENV.python,
        "Glance's virtualenv": glance_venv.glance_python,
        "the guest's disk": guest_disk,
    }
    with home.locked():
        environment.prepare(home, screen, others)
    command.go_on(home, "tools._cloud", "up")


def up(home: Home, screen: Screen) -> None:
    """Start it, and leave it up."""
    with home.locked():
        home.require_down()
        ports = Ports(home.tool, LISTENERS)
        ports.require_free()
        home.make()
        processes.mark(home.path)
        command.let_no_proxy_in()
        made: list[Cloud] = []
        with command.cleared_after_failure(home, screen, lambda: _save_logs(home, made)):
            screen.say("Starting")
            made.append(_cloud(home, ports))
            made[0].start(screen.step)
            home.keep(services=_services(made[0]))
        screen.say(TO_TRY.format(repository=shlex.quote(str(home.repository))))


def down(home: Home, screen: Screen) -> None:
    """End it."""
    with home.locked():
        found = home.clear()
    screen.say("The cloud is down." if found else "No cloud is up.")


def status(home: Home, screen: Screen) -> int:
    """:returns: 0 if everything serves."""
    notes = home.notes()
    if notes is None:
        screen.say("No cloud is up.")
        return 1
    services, pids = Service.from_notes(notes), home.processes()
    serving = [service.serves(pids) for service in services]
    for service, serves in zip(services, serving, strict=True):
        state = "serves" if serves else "DOES NOT SERVE"
        screen.say(f"  {service.name:18} {state:15} {service.address or service.log}")
    screen.say(f"  {'clients':18} {'':15} OS_CLIENT_CONFIG_FILE={home.clouds}")
    return 0 if all(serving) else 1


def _cloud(home: Home, ports: Ports) -> Cloud:
    from tests.fixtures import cloud

    return cloud.Cloud(
        home.path,
        ports=cloud.Ports(ports[KEYSTONE], ports[GLANCE], ports[NOVA_SNAP]),
        places=cloud.Places(
            libvirt=home.new_root(),
            rabbitmq=home.new_server_directory(),
            mariadb=home.new_server_directory(),
        ),
    )


def _services(cloud: Cloud) -> list[dict[str, str]]:
    addresses = {
        "keystone": cloud.keystone.url,
        "glance": f"{cloud.glance.url}/healthcheck",
        "rabbitmq": f"127.0.0.1:{cloud.rabbitmq.port}",
        "mariadb": f"127.0.0.1:{cloud.mariadb.port}",
        "nova-snap-api": f"{cloud.deployment.url}/healthcheck",
    }
    return [
        {
            "name": name,
            "address": addresses.get(name, ""),
            "program": "" if name in addresses else name,
            "log": str(log),
        }
        for name, log in cloud.logs.items()
    ]


def _save_logs(home: Home, made: list[Cloud]) -> None:
    for cloud in made:
        for name, log in cloud.logs.items():
            if log.exists():
                shutil.copy(log, home.logs / f"{name}.log")


ACTIONS: command.Actions = {
    "check": check,
    "prepare": prepare,
    "up": up,
    "down": down,
    "status": status,
}

if __name__ == "__main__":
    sys.exit(command.main("cloud", ACTIONS, sys.argv[1:]))
