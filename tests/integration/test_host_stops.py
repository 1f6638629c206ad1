# SPDX-License-Identifier: Apache-2.0
"""A compute host that is stopped, started twice, or down when it is asked: processes as they are
deployed."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap.compute import task_states
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.service import Service
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.fake import snapshot_data
from tests.fixtures.deployment import Deployment
from tests.fixtures.glance import Glance
from tests.fixtures.rabbitmq import RabbitMQ
from tests.fixtures.service import make_context, make_instance
from tests.fixtures.service_process import free_port

COMPUTE = "nova-snap-compute"
SIZE = 100_000
SOON = 60
# graceful_shutdown_timeout, what cancelling takes, and a machine that is busy.
STOP_SECONDS = 60


@pytest.fixture
def options(rabbitmq: RabbitMQ, trusted_glance: Glance) -> dict[str, dict[str, Any]]:
    return {
        "DEFAULT": {
            "compute_driver": "fake.FakeDriver",
            "transport_url": rabbitmq.url,
            # Queues outlive a test, and so do the messages in them.
            "host": f"compute-{uuid.uuid4().hex[:8]}",
            "graceful_shutdown_timeout": 1,
            "max_concurrent_snapshots": 1,
        },
        "fake": {"snapshot_size": SIZE},
        "glance": {"api_servers": trusted_glance.url},
    }


@pytest.fixture
def deploy(
    tmp_path: Path, options: dict[str, dict[str, Any]]
) -> Iterator[Callable[..., Deployment]]:
    made: list[Deployment] = []

    def deployed(*commands: str, **changed: Any) -> Deployment:
        """:param changed: options of [DEFAULT]; ``snapshot_delay`` is one of [fake]."""
        given = {group: dict(values) for group, values in options.items()}
        given["fake"]["snapshot_delay"] = changed.pop("snapshot_delay", 0)
        given["DEFAULT"].update(changed)
        made.append(Deployment(tmp_path, given, commands or (COMPUTE, "nova-snap-api")))
        if len(made) == 1:
            made[0].manage("db", "sync")
        return made[-1]

    yield deployed
    for each in made:
        each.stop()


@pytest.fixture
def database(conf: cfg.ConfigOpts) -> Iterator[Database]:
    """That of the deployment, which is in the same directory."""
    made = Database(conf)
    yield made
    made.close()


@pytest.fixture
def context(database: Database) -> RequestContext:
    return make_context(database, user_id="kim", project_id="shop")


@pytest.fixture
def new_instance(
    context: RequestContext, options: dict[str, dict[str, Any]]
) -> Callable[[], Instance]:
    """Gives a running instance of the host, once the deployment has made its tables."""

    def made() -> Instance:
        host = options["DEFAULT"]["host"]
        return make_instance(context, host=host, project_id="shop", user_id="kim")

    return made


def wait_until(condition: Callable[[], Any], what: str) -> None:
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until, f"{what} never came true"
        time.sleep(0.05)


def state(context: RequestContext, instance: Instance) -> str | None:
    return Instance.get_by_uuid(context, instance.uuid).task_state


def said(context: RequestContext, instance: Instance) -> str | None:
    (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert action.finish_time is not None
    return action.message


class TestStop:
    def test_what_runs_is_cancelled_and_what_waits_runs_after_the_next_start(
        self,
        deploy: Callable[..., Deployment],
        context: RequestContext,
        new_instance: Callable[[], Instance],
        trusted_glance: Glance,
    ) -> None:
        first = deploy(snapshot_delay=600)
        running, waiting, third = (new_instance() for _ in range(3))
        first.start()
        client = first.client()
        images = [client.create_image(running.uuid, "snap")]
        wait_until(lambda: "begins" in first.log(), "the first snapshot")
        images += [client.create_image(each.uuid, "snap") for each in (waiting, third)]
        wait_until(lambda: state(context, third) == task_states.IMAGE_SNAPSHOT, "the queue")
        # The only place is taken: the API answers all the same, and says who waits.
        wait_until(lambda: self.position(context, third) == 2, "the position")
        server = client.server(third.uuid)
        assert server["OS-EXT-STS:task_state"] == task_states.IMAGE_SNAPSHOT
        listed = [line.split() for line in first.manage("snapshot", "list").splitlines()[1:]]
        assert sorted((line[0], line[4]) for line in listed) == sorted(
            zip(images, ("running", "queued", "queued"), strict=True)
        )

        began = time.monotonic()
        first.services[COMPUTE].stop(timeout=3 * STOP_SECONDS)
        assert time.monotonic() - began < STOP_SECONDS
        glance = trusted_glance.client(user_id="kim", project_id="shop")
        assert state(context, running) is None
        assert said(context, running) == (
            "The compute service was stopped before the snapshot was done; try again."
        )
        assert images[0] not in [image["id"] for image in glance.images.list()]
        for instance, image_id in zip((waiting, third), images[1:], strict=True):
            assert state(context, instance) == task_states.IMAGE_SNAPSHOT_PENDING
            assert glance.images.get(image_id)["status"] == "queued"

        second = deploy(COMPUTE)
        second.start()
        for instance, image_id in zip((waiting, third), images[1:], strict=True):
            wait_until(lambda each=instance: state(context, each) is None, "the end")
            data = b"".join(glance.images.data(image_id))
            assert data == snapshot_data(instance.uuid, SIZE)
        wait_until(lambda: SnapshotRequest.count_by_phase(context) == [], "an empty journal")

    @staticmethod
    def position(context: RequestContext, instance: Instance) -> int | None:
        (action,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        for event in action.events(context):
            if event.event == "compute_queue_snapshot" and event.details:
                return int(event.details.split("position ")[1].split()[0])
        return None


class TestStopWithoutBroker:
    @pytest.fixture(params=["away", "hangs"])
    def lose_broker(
        self, request: pytest.FixtureRequest, rabbitmq: RabbitMQ
    ) -> Iterator[Callable[[], None]]:
        away = request.param == "away"
        yield rabbitmq.stop if away else rabbitmq.service.pause
        if away:
            rabbitmq.start()
        else:
            rabbitmq.service.resume()

    def test_the_services_end(
        self,
        deploy: Callable[..., Deployment],
        context: RequestContext,
        new_instance: Callable[[], Instance],
        lose_broker: Callable[[], None],
    ) -> None:
        made = deploy(snapshot_delay=600)
        running, waiting = (new_instance() for _ in range(2))
        made.start()
        client = made.client()
        client.create_image(running.uuid, "snap")
        wait_until(lambda: "begins" in made.log(), "the first snapshot")
        client.create_image(waiting.uuid, "snap")
        wait_until(lambda: state(context, waiting) == task_states.IMAGE_SNAPSHOT, "the queue")
        lose_broker()
        for service in made.services.values():
            began = time.monotonic()
            service.stop(timeout=3 * STOP_SECONDS)
            assert time.monotonic() - began < STOP_SECONDS
        for instance in (running, waiting):
            assert state(context, instance) is None
            assert said(context, instance) == (
                "The compute service was stopped before the snapshot was done; try again."
            )

    @pytest.mark.parametrize("command", [COMPUTE, "nova-snap-all"])
    def test_one_that_waits_for_it_to_start_ends(
        self, deploy: Callable[..., Deployment], command: str
    ) -> None:
        made = deploy(command, transport_url=f"rabbit://guest:guest@127.0.0.1:{free_port()}/")
        service = made.services[command]
        service.start()
        wait_until(lambda: "Connection refused" in made.log(), "a try to connect")
        began = time.monotonic()
        service.stop(timeout=3 * STOP_SECONDS)
        assert time.monotonic() - began < STOP_SECONDS
        assert "Stopped before it had started" in made.log()


class TestSecond:
    def test_a_second_service_of_a_host_leaves_the_first_ones_work_alone(
        self,
        deploy: Callable[..., Deployment],
        context: RequestContext,
        new_instance: Callable[[], Instance],
        trusted_glance: Glance,
    ) -> None:
        first = deploy(snapshot_delay=5)
        instance = new_instance()
        first.start()
        image_id = first.client().create_image(instance.uuid, "snap")
        wait_until(lambda: "begins" in first.log(), "the snapshot")
        second = deploy(COMPUTE).services[COMPUTE]
        second.start()
        wait_until(lambda: not second.running, "the end of the second")
        assert f"is done by process {first.services[COMPUTE].pid}" in first.log()
        wait_until(lambda: SnapshotRequest.count_by_phase(context) == [], "the snapshot's end")
        assert said(context, instance) is None
        glance = trusted_glance.client(user_id="kim", project_id="shop")
        assert b"".join(glance.images.data(image_id)) == snapshot_data(instance.uuid, SIZE)


class TestDown:
    def test_a_request_for_a_host_that_does_not_return_is_ended_by_the_api(
        self,
        deploy: Callable[..., Deployment],
        context: RequestContext,
        new_instance: Callable[[], Instance],
        trusted_glance: Glance,
    ) -> None:
        made = deploy(snapshot_pending_timeout=2)
        instance = new_instance()
        made.start()
        made.services[COMPUTE].kill()
        image_id = made.client().create_image(instance.uuid, "snap")
        wait_until(lambda: state(context, instance) is None, "the end of the request")
        assert said(context, instance) == (
            "The request did not reach the compute host within 2 s; try again."
        )
        glance = trusted_glance.client(user_id="kim", project_id="shop")
        assert image_id not in [image["id"] for image in glance.images.list()]
        # It is back: the message came too late, and leaves nothing.
        deploy(COMPUTE).start()
        wait_until(lambda: f"to image {image_id} is refused" in made.log(), "the late message")
        assert state(context, instance) is None

    def test_a_host_that_is_known_to_be_down_is_not_asked_where_the_operator_says_so(
        self,
        deploy: Callable[..., Deployment],
        options: dict[str, dict[str, Any]],
        context: RequestContext,
        new_instance: Callable[[], Instance],
    ) -> None:
        down = {"report_interval": 1, "service_down_time": 3}
        made = deploy(snapshot_on_down_host="refuse", **down)
        instance = new_instance()
        made.start()
        client = made.client()
        client.create_image(instance.uuid, "snap")
        wait_until(lambda: state(context, instance) is None, "the snapshot")
        made.services[COMPUTE].kill()
        service = Service.get_by_host(context, options["DEFAULT"]["host"])
        wait_until(lambda: not Service.get_by_id(context, service.id).is_up(3), "the silence")
        answer = client.post(f"/servers/{instance.uuid}/action", {"createImage": {"name": "late"}})
        assert (answer.status_code, answer.json()) == (
            409,
            {
                "conflictingRequest": {
                    "code": 409,
                    "message": f"Cannot 'createImage' instance {instance.uuid} while its compute "
                    "host is down; try again later.",
                }
            },
        )
        assert state(context, instance) is None
