# SPDX-License-Identifier: Apache-2.0
"""nova_snap on three hosts: an API and two computes, with RabbitMQ, MariaDB and Glance."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from tests.fixtures.deployment import Deployment
from tests.fixtures.glance import Glance
from tests.fixtures.mariadb import MariaDB
from tests.fixtures.rabbitmq import RabbitMQ
from tests.fixtures.service_process import ServiceProcess
from tests.load.asking import Asker
from tests.load.plan import USER, Plan

API, COMPUTE = "nova-snap-api", "nova-snap-compute"
HOSTS = ("compute-1", "compute-2")
ADMIN = "admin:admin"
START_SECONDS = 120


class Unready(Exception):
    """The servers that the load is about could not be made."""


class Installation:
    """A context manager; it has a virtual host and a database of its own.

    :param directory: for configuration and logs; made if missing.
    :param glance: with ``auth`` "trusted".
    :ivar instances: uuids, by project.
    """

    def __init__(
        self, directory: Path, plan: Plan, rabbitmq: RabbitMQ, mariadb: MariaDB, glance: Glance
    ) -> None:
        self.plan = plan
        self.glance = glance
        self.instances: dict[str, list[str]] = {}
        self._rabbitmq = rabbitmq
        self._mariadb = mariadb
        self._vhost = f"load-{uuid.uuid4().hex[:8]}"
        self._database = f"load_{uuid.uuid4().hex[:8]}"
        self._stack = contextlib.ExitStack()
        options = self._options()
        self._deployments = {}
        for host, command in ((HOSTS[0], COMPUTE), (HOSTS[1], COMPUTE), ("api", API)):
            place = directory / host
            place.mkdir(parents=True)
            options["DEFAULT"]["host"] = host
            self._deployments[host] = Deployment(place, options, (command,))

    @property
    def asker(self) -> Asker:
        """A client of the API."""
        # Later than the bound, so that what is slow is told from what never comes.
        return Asker(self._deployments["api"].port, 4 * self.plan.answer_seconds)

    @property
    def services(self) -> dict[str, ServiceProcess]:
        """The three processes, by the name of their host."""
        return {
            host: next(iter(each.services.values())) for host, each in self._deployments.items()
        }

    def log(self) -> str:
        """What the three processes have logged."""
        return "".join(each.log() for each in self._deployments.values())

    def __enter__(self) -> Self:
        with self._stack:
            self._deployments["api"].manage("db", "sync")
            for each in self._deployments.values():
                self._stack.enter_context(each).start(START_SECONDS)
            asyncio.run(self._make_instances())
            self._stack = self._stack.pop_all()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()

    # -- what is left --------------------------------------------------------------------------

    def waiting_messages(self) -> dict[str, int]:
        """Queues of RabbitMQ that are not empty."""
        listed = self._rabbitmq.ctl("list_queues", "-p", self._vhost, "name", "messages")
        rows = [line.split("\t") for line in listed.splitlines() if "\t" in line]
        return {name: int(count) for name, count in rows if count.isdigit() and int(count)}

    def journal(self) -> int:
        """How many requests the journal of snapshots has."""
        return int(self._query("SELECT COUNT(*) FROM snapshot_requests"))

    def connections(self) -> int:
        """How many connections the database server has."""
        return int(self._query("SELECT COUNT(*) FROM information_schema.processlist"))

    def _query(self, statement: str) -> str:
        return self._mariadb.sql(f"USE {self._database}; {statement}").split()[-1]

    # -- making it -----------------------------------------------------------------------------

    def _options(self) -> dict[str, dict[str, Any]]:
        return {
            "DEFAULT": {
                "compute_driver": "fake.FakeDriver",
                "transport_url": self._rabbitmq.make_vhost(self._vhost),
                "max_concurrent_snapshots": self.plan.places,
            },
            "api": {"queue_timeout": self.plan.queue_seconds},
            "database": {"connection": self._mariadb.create_database(self._database)},
            "fake": {"snapshot_delay": self.plan.delay, "snapshot_size": self.plan.size},
            "glance": {"api_servers": self.glance.url},
            "quota": {"instances": -1, "cores": -1, "ram": -1},
        }

    async def _make_instances(self) -> None:
        asker = self.asker
        flavor = {"id": "1", "name": "small", "ram": 64, "vcpus": 1, "disk": 1}
        await self._want(asker.post("/flavors", ADMIN, {"flavor": flavor}), 200)
        image = self._make_image()
        for project, count in self.plan.owned.items():
            server = {
                "name": project, "flavorRef": "1", "imageRef": image, "networks": "none",
                "min_count": count, "return_reservation_id": True,
            }  # fmt: skip
            await self._want(asker.post("/servers", f"{USER}:{project}", {"server": server}), 202)
        until = time.monotonic() + START_SECONDS
        while not all(await asyncio.gather(*(self._made(p) for p in self.plan.owned))):
            if time.monotonic() > until:
                raise Unready(f"{self.instances}\n{self.log()[-4000:]}")
            await asyncio.sleep(0.2)

    async def _made(self, project: str) -> bool:
        answer = await self._want(self.asker.get("/servers/detail", f"{USER}:{project}"), 200)
        servers = answer.body["servers"]
        self.instances[project] = [server["id"] for server in servers]
        return len(servers) == self.plan.owned[project] and all(
            server["status"] == "ACTIVE" for server in servers
        )

    @staticmethod
    async def _want(asked: Any, status: int) -> Any:
        answer = await asked
        if answer.status != status:
            raise Unready(f"{answer}")
        return answer

    def _make_image(self) -> str:
        images = self.glance.client(USER, "base", "admin").images
        formats = {"disk_format": "raw", "container_format": "bare"}
        image = images.create(name="base", visibility="public", **formats)
        self._stack.callback(images.delete, image["id"])
        images.upload(image["id"], io.BytesIO(b"base"))
        return str(image["id"])


@contextlib.contextmanager
def standalone(directory: Path, plan: Plan) -> Iterator[Installation]:
    """All of it, with servers of its own."""
    with (
        RabbitMQ() as rabbitmq,
        MariaDB() as mariadb,
        Glance(directory / "glance", auth="trusted") as glance,
        Installation(directory / "hosts", plan, rabbitmq, mariadb, glance) as made,
    ):
        yield made
