# SPDX-License-Identifier: Apache-2.0
"""What is killed: each a server with data and an address that it has again when it is started."""

from __future__ import annotations

import abc
from typing import Any, Protocol

from tests.fixtures.deployment import Deployment
from tests.fixtures.glance import Glance
from tests.fixtures.private_server import PrivateServer
from tests.fixtures.service_process import ServiceProcess

API_COMMAND = "nova-snap-api"


class Victim(Protocol):
    """A server that others are connected to.

    :ivar name: for the command line and the table.
    """

    name: str

    @property
    def running(self) -> bool:
        """Whether its process lives: it is asked often, and costs nothing."""

    @property
    def returncode(self) -> int | None:
        """How it ended, if it was not by :meth:`kill`; ``None`` while it runs."""

    @property
    def group(self) -> int:
        """Its process group, for whoever kills it from within a snapshot. Only while it runs."""

    def kill(self) -> None:
        """SIGKILL to the process group; nothing if it is dead already."""

    def start(self) -> None:
        """Start it with the same data at the same address; returns when it serves.

        :raises tests.fixtures.service_process.ServiceFailed: if it does not in time.
        """


class ServerProcess(abc.ABC):
    """A victim that is one server process, but for how it is started."""

    name: str

    @property
    @abc.abstractmethod
    def service(self) -> ServiceProcess:
        """The process."""

    @property
    def running(self) -> bool:
        return self.service.running

    @property
    def returncode(self) -> int | None:
        return self.service.returncode

    @property
    def group(self) -> int:
        pid = self.service.pid
        if pid is None:
            raise RuntimeError(f"{self.name} does not run")
        return pid

    def kill(self) -> None:
        self.service.kill()


class Server(ServerProcess):
    """RabbitMQ or MariaDB."""

    def __init__(self, server: PrivateServer) -> None:
        self.name = server.name
        self._server = server

    @property
    def service(self) -> ServiceProcess:
        return self._server.service

    def start(self) -> None:
        self._server.start()


class ImageService(ServerProcess):
    """Glance."""

    name = "glance"

    def __init__(self, glance: Glance) -> None:
        self._glance = glance

    @property
    def service(self) -> ServiceProcess:
        return self._glance.service

    def start(self) -> None:
        self._glance.start()


class Api(ServerProcess):
    """nova-snap-api.

    :param world: that starts it, see :class:`tests.outages.world.OutageWorld`.
    """

    name = "api"

    def __init__(self, world: Any) -> None:
        self._world = world

    @property
    def service(self) -> ServiceProcess:
        deployment: Deployment = self._world.deployment
        return deployment.services[API_COMMAND]

    def start(self) -> None:
        self._world.start()
