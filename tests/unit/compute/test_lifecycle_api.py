# SPDX-License-Identifier: Apache-2.0
"""The compute API of an instance's life, with messages that are remembered or fail."""

import concurrent.futures
import dataclasses
import threading
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import power_actions, server_request, task_states, vm_states
from nova_snap.compute.lifecycle_api import LifecycleAPI, ServerRequest
from nova_snap.context import RequestContext
from nova_snap.objects.flavor import Flavor
from nova_snap.objects.instance import Instance, InstanceFilters, InstanceList
from nova_snap.objects.instance_action import InstanceAction
from nova_snap.objects.instance_fault import InstanceFault
from nova_snap.objects.service import COMPUTE, ComputeNode, Service
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_context, make_instance

GIB = 1024**3
DOWN = exception.MessagingUnavailable(host=HOST, reason="no broker")
FLAVOR = Flavor("1", "m1", memory_mb=512, vcpus=2, root_gb=1)


class Casts:
    """Takes the place of the messages: remembers them, or fails.

    :ivar fail_after: how many are taken before all others fail; ``None`` for all.
    """

    def __init__(self) -> None:
        self.sent: list[tuple[str, str, str | None]] = []
        self.fail_after: int | None = None

    def build_instance(self, ctxt: RequestContext, instance: Instance, network: str) -> None:
        self._take("build_instance", instance, network)

    def terminate_instance(self, ctxt: RequestContext, instance: Instance) -> None:
        self._take("terminate_instance", instance)

    def switch_instance(
        self, ctxt: RequestContext, instance: Instance, action: power_actions.PowerAction
    ) -> None:
        self._take(action.method, instance)

    def _take(self, method: str, instance: Instance, value: str | None = None) -> None:
        if self.fail_after is not None and len(self.sent) >= self.fail_after:
            raise DOWN
        self.sent.append((method, instance.uuid, value))


@pytest.fixture
def casts() -> Casts:
    return Casts()


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


@pytest.fixture
def life(
    conf: cfg.ConfigOpts, images: MemoryImages, casts: Casts, context: RequestContext
) -> LifecycleAPI:
    """With one compute host that is up."""
    Service.register(context, HOST, COMPUTE, "topic")
    return LifecycleAPI(conf, images, casts)  # type: ignore[arg-type]


@pytest.fixture
def image_id(context: RequestContext, images: MemoryImages) -> str:
    image_id: str = images.create(context, {"name": "image"})["id"]
    images.records[image_id].update(status="active", size=1000, min_ram=0, min_disk=0)
    return image_id


def request_for(image_id: str, **values: Any) -> ServerRequest:
    given: dict[str, Any] = {"name": "web", "image_ref": image_id, "flavor": FLAVOR, **values}
    return ServerRequest(**given)


def everything(context: RequestContext) -> list[Instance]:
    return InstanceList.get_by_filters(context, InstanceFilters())


class TestImages:
    def test_one_that_is_not_there(self, life: LifecycleAPI, context: RequestContext) -> None:
        with pytest.raises(exception.RequestedImageNotFound, match="no-such"):
            life.create(context, request_for("no-such"))
        assert everything(context) == []

    @pytest.mark.parametrize(
        ("record", "error"),
        [
            ({"status": "queued"}, exception.ImageNotActive),
            ({"status": "deactivated"}, exception.ImageNotActive),
            ({"min_ram": 513}, exception.FlavorMemoryTooSmall),
            ({"size": GIB + 1}, exception.FlavorDiskSmallerThanImage),
            ({"virtual_size": GIB + 1}, exception.FlavorDiskSmallerThanImage),
            ({"min_disk": 2}, exception.FlavorDiskSmallerThanMinDisk),
        ],
    )
    def test_one_that_does_not_do(
        self,
        life: LifecycleAPI,
        context: RequestContext,
        images: MemoryImages,
        image_id: str,
        record: dict[str, Any],
        error: type[Exception],
    ) -> None:
        images.records[image_id].update(record)
        with pytest.raises(error):
            life.create(context, request_for(image_id))
        assert everything(context) == []

    @pytest.mark.parametrize(
        "record", [{"min_ram": 512}, {"size": GIB, "virtual_size": GIB}, {"min_disk": 1}]
    )
    def test_one_that_just_fits(
        self,
        life: LifecycleAPI,
        context: RequestContext,
        images: MemoryImages,
        image_id: str,
        record: dict[str, Any],
    ) -> None:
        images.records[image_id].update(record)
        (made,), _ = life.create(context, request_for(image_id))
        assert (made.vm_state, made.task_state) == (vm_states.BUILDING, task_states.SCHEDULING)

    def test_a_disk_as_large_as_the_image(
        self, life: LifecycleAPI, context: RequestContext, images: MemoryImages, image_id: str
    ) -> None:
        images.records[image_id].update(size=5 * GIB, min_disk=7)
        flavor = dataclasses.replace(FLAVOR, root_gb=0)
        assert life.create(context, request_for(image_id, flavor=flavor))[0]


class TestQuota:
    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            (
                {"instances": 1},
                "Quota exceeded for instances: Requested 1, but already used 1 of 1 instances",
            ),
            (
                {"cores": 3, "ram": 1000},
                "Quota exceeded for cores, ram: Requested 2, 512, but already used 2, 512 of "
                "3, 1000 cores, ram",
            ),
        ],
    )
    def test_too_many(
        self,
        life: LifecycleAPI,
        context: RequestContext,
        conf: cfg.ConfigOpts,
        image_id: str,
        limits: dict[str, int],
        message: str,
    ) -> None:
        for name, value in limits.items():
            conf.set_override(name, value, "quota")
        life.create(context, request_for(image_id))
        with pytest.raises(exception.QuotaExceeded) as caught:
            life.create(context, request_for(image_id))
        assert str(caught.value) == message
        assert len(everything(context)) == 1

    def test_as_many_as_there_is_room_for(
        self, life: LifecycleAPI, context: RequestContext, conf: cfg.ConfigOpts, image_id: str
    ) -> None:
        conf.set_override("cores", 7, "quota")
        made, _ = life.create(context, request_for(image_id, min_count=2, max_count=9))
        assert len(made) == 3
        with pytest.raises(exception.QuotaExceeded):
            life.create(context, request_for(image_id, min_count=1, max_count=9))

    def test_no_limit(
        self, life: LifecycleAPI, context: RequestContext, conf: cfg.ConfigOpts, image_id: str
    ) -> None:
        for name in ("instances", "cores", "ram"):
            conf.set_override(name, -1, "quota")
        made, _ = life.create(context, request_for(image_id, min_count=12, max_count=12))
        assert len(made) == 12

    def test_those_that_are_faster_win(
        self, life: LifecycleAPI, context: RequestContext, conf: cfg.ConfigOpts, image_id: str
    ) -> None:
        """Each request has passed the first check before any of them has made its instance."""
        conf.set_override("instances", 2, "quota")
        together = threading.Barrier(4, timeout=20)
        get = life._creation._image_api.get

        def get_when_all_are_here(*given: Any) -> Any:
            found = get(*given)
            together.wait()
            return found

        life._creation._image_api.get = get_when_all_are_here  # type: ignore[method-assign,assignment]

        def create(_: int) -> bool:
            try:
                life.create(make_context(context.db), request_for(image_id))
            except exception.QuotaExceeded:
                return False
            return True

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            answers = list(pool.map(create, range(4)))
        assert len(everything(context)) == sum(answers) <= 2

    def test_metadata(
        self, life: LifecycleAPI, context: RequestContext, conf: cfg.ConfigOpts, image_id: str
    ) -> None:
        conf.set_override("metadata_items", 1, "quota")
        with pytest.raises(exception.ServerMetadataLimitExceeded, match="exceeds 1"):
            life.create(context, request_for(image_id, metadata={"a": "b", "c": "d"}))
        assert everything(context) == []


class TestHosts:
    def test_the_least_loaded_host_that_is_up(
        self, life: LifecycleAPI, context: RequestContext, image_id: str
    ) -> None:
        Service.register(context, "compute-2", COMPUTE, "topic")
        make_instance(context, host=HOST, flavor=dataclasses.replace(FLAVOR).for_instance())
        made, _ = life.create(context, request_for(image_id, max_count=3, min_count=3))
        assert [each.host for each in made] == ["compute-2", HOST, "compute-2"]
        disabled = Service.get_by_host(context, "compute-2")
        disabled.disabled = True
        disabled.save(context)
        (made_then,), _ = life.create(context, request_for(image_id))
        assert made_then.host == HOST

    def test_a_host_that_was_named(
        self, life: LifecycleAPI, context: RequestContext, image_id: str
    ) -> None:
        Service.register(context, "compute-2", COMPUTE, "topic")
        (made,), _ = life.create(context, request_for(image_id, host=HOST))
        assert made.host == HOST
        (lost,), _ = life.create(context, request_for(image_id, host="elsewhere"))
        assert (lost.vm_state, lost.task_state, lost.host) == (vm_states.ERROR, None, None)
        fault = InstanceFault.latest_by_instance_uuids(context, [lost.uuid])[lost.uuid]
        assert fault.message == ("No valid host was found. Host 'elsewhere' is not up and enabled.")

    def test_a_host_gives_away_no_more_than_it_may(
        self, life: LifecycleAPI, context: RequestContext, conf: cfg.ConfigOpts, image_id: str
    ) -> None:
        conf.set_override("ram_allocation_ratio", 2.0)
        service = Service.get_by_host(context, HOST)
        ComputeNode.record(context, service, {"memory_mb": 768})
        made, _ = life.create(context, request_for(image_id, min_count=3, max_count=3))
        assert [each.host for each in made] == [HOST] * 3
        (lost,), _ = life.create(context, request_for(image_id))
        assert (lost.vm_state, lost.host) == (vm_states.ERROR, None)
        Service.register(context, "compute-2", COMPUTE, "topic")
        (elsewhere,), _ = life.create(context, request_for(image_id))
        assert elsewhere.host == "compute-2"

    def test_nothing_is_left_if_no_host_can_be_asked(
        self, life: LifecycleAPI, context: RequestContext, casts: Casts, image_id: str
    ) -> None:
        casts.fail_after = 0
        with pytest.raises(exception.MessagingUnavailable):
            life.create(context, request_for(image_id, min_count=2, max_count=2))
        assert everything(context) == []

    def test_one_that_is_deleted_before_it_has_a_host(
        self, life: LifecycleAPI, context: RequestContext, casts: Casts, image_id: str
    ) -> None:
        build = casts.build_instance

        def delete_the_other(ctxt: RequestContext, instance: Instance, network: str) -> None:
            build(ctxt, instance, network)
            for other in everything(context):
                if other.host is None:
                    life.delete(context, other)

        casts.build_instance = delete_the_other  # type: ignore[method-assign]
        made, _ = life.create(context, request_for(image_id, min_count=2, max_count=2))
        assert casts.sent == [("build_instance", made[0].uuid, "auto")]
        assert [each.uuid for each in everything(context)] == [made[0].uuid]

    def test_those_that_were_sent_stay(
        self, life: LifecycleAPI, context: RequestContext, casts: Casts, image_id: str
    ) -> None:
        casts.fail_after = 1
        made, _ = life.create(context, request_for(image_id, min_count=2, max_count=2))
        states = [(each.vm_state, each.task_state) for each in made]
        assert states == [
            (vm_states.BUILDING, task_states.SCHEDULING),
            (vm_states.ERROR, None),
        ]
        assert casts.sent == [("build_instance", made[0].uuid, "auto")]


class TestSwitch:
    @pytest.mark.parametrize("action", power_actions.ALL, ids=lambda each: each.task_state)
    @pytest.mark.parametrize("vm_state", vm_states.ALL)
    def test_the_table(
        self,
        life: LifecycleAPI,
        context: RequestContext,
        casts: Casts,
        action: power_actions.PowerAction,
        vm_state: str,
    ) -> None:
        instance = make_instance(context, vm_state=vm_state)
        given = ["SOFT" if action is power_actions.REBOOT_SOFT else "HARD"]
        call = getattr(life, action.name)
        arguments = given if action.name == "reboot" else []
        if vm_state in action.vm_states:
            call(context, instance, *arguments)
            assert casts.sent == [(action.method, instance.uuid, None)]
            assert Instance.get_by_uuid(context, instance.uuid).task_state == action.task_state
            (record,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
            assert record.action == action.name
        else:
            with pytest.raises(exception.InstanceInvalidState) as caught:
                call(context, instance, *arguments)
            assert str(caught.value) == (
                f"Cannot '{action.name}' instance {instance.uuid} while it is in "
                f"vm_state {vm_state}"
            )
            assert casts.sent == []

    def test_a_task_state_forbids_it(self, life: LifecycleAPI, context: RequestContext) -> None:
        instance = make_instance(context, task_state=task_states.IMAGE_UPLOADING)
        with pytest.raises(exception.InstanceInvalidState, match="task_state image_uploading"):
            life.stop(context, instance)
        with pytest.raises(exception.InstanceInvalidState, match="task_state image_uploading"):
            life.reboot(context, instance, "HARD")

    def test_a_failed_message_changes_nothing(
        self, life: LifecycleAPI, context: RequestContext, casts: Casts
    ) -> None:
        casts.fail_after = 0
        instance = make_instance(context)
        with pytest.raises(exception.MessagingUnavailable):
            life.pause(context, instance)
        assert Instance.get_by_uuid(context, instance.uuid).task_state is None
        (record,) = InstanceAction.get_by_instance_uuid(context, instance.uuid)
        assert record.message == DOWN.for_user()

    def test_an_instance_on_no_host(self, life: LifecycleAPI, context: RequestContext) -> None:
        with pytest.raises(exception.InstanceNotReady):
            life.stop(context, make_instance(context, host=None))


class TestDelete:
    @pytest.mark.parametrize("task_state", [None, *task_states.ALL])
    def test_in_every_state(
        self,
        life: LifecycleAPI,
        context: RequestContext,
        casts: Casts,
        task_state: str | None,
    ) -> None:
        instance = make_instance(context, task_state=task_state)
        life.delete(context, instance)
        assert casts.sent == [("terminate_instance", instance.uuid, None)]
        now = Instance.get_by_uuid(context, instance.uuid)
        assert now.task_state == task_states.DELETING

    def test_on_no_host(self, life: LifecycleAPI, context: RequestContext, casts: Casts) -> None:
        instance = make_instance(context, host=None, vm_state=vm_states.ERROR)
        life.delete(context, instance)
        assert (instance.deleted, instance.cleanup_pending, casts.sent) == (True, False, [])
        life.delete(context, instance)

    def test_on_a_host_that_cannot_be_asked(
        self, life: LifecycleAPI, context: RequestContext, casts: Casts
    ) -> None:
        unknown = make_instance(context, host="gone")
        life.delete(context, unknown)
        assert (unknown.deleted, unknown.cleanup_pending, casts.sent) == (True, True, [])
        casts.fail_after = 0
        unsent = make_instance(context)
        life.delete(context, unsent)
        assert (unsent.deleted, unsent.cleanup_pending) == (True, True)
        pending = InstanceFilters(deleted=True, cleanup_pending=True, host=HOST)
        assert [each.uuid for each in InstanceList.get_by_filters(context, pending)] == [
            unsent.uuid
        ]


class TestRecords:
    @pytest.mark.parametrize("state", ["active", "error"])
    @pytest.mark.parametrize("task_state", [None, *task_states.ALL])
    def test_a_reset(
        self, life: LifecycleAPI, context: RequestContext, state: str, task_state: str | None
    ) -> None:
        instance = make_instance(context, task_state=task_state, snapshot_image_id="i")
        life.reset_state(context, instance, state)
        now = Instance.get_by_uuid(context, instance.uuid)
        assert (now.vm_state, now.task_state, now.snapshot_image_id) == (state, None, None)

    def test_an_update_changes_what_is_given(
        self, life: LifecycleAPI, context: RequestContext
    ) -> None:
        instance = make_instance(context, display_description="old", access_ip_v4="192.0.2.1")
        life.update(context, instance, display_name="new")
        now = Instance.get_by_uuid(context, instance.uuid)
        assert (now.display_name, now.display_description) == ("new", "old")
        life.update(context, instance, display_description=None, access_ip_v4=None)
        now = Instance.get_by_uuid(context, instance.uuid)
        assert (now.display_name, now.display_description, now.access_ip_v4) == ("new", None, None)

    def test_metadata(self, life: LifecycleAPI, context: RequestContext) -> None:
        instance = make_instance(context, metadata={"a": "1", "b": "2"})
        merged = life.update_metadata(context, instance, {"b": "3", "c": "4"}, replace=False)
        assert merged == {"a": "1", "b": "3", "c": "4"}
        assert life.update_metadata(context, instance, {"d": "5"}, replace=True) == {"d": "5"}
        with pytest.raises(exception.MetadataItemNotFound):
            life.delete_metadata_item(context, instance, "a")
        life.delete_metadata_item(context, instance, "d")
        assert Instance.get_by_uuid(context, instance.uuid).metadata == {}

    def test_too_much_metadata_changes_nothing(
        self, life: LifecycleAPI, context: RequestContext, conf: cfg.ConfigOpts
    ) -> None:
        conf.set_override("metadata_items", 2, "quota")
        instance = make_instance(context, metadata={"a": "1", "b": "2"})
        with pytest.raises(exception.ServerMetadataLimitExceeded):
            life.update_metadata(context, instance, {"c": "3"}, replace=False)
        life.update_metadata(context, instance, {"c": "3"}, replace=True)
        assert Instance.get_by_uuid(context, instance.uuid).metadata == {"c": "3"}

    def test_metadata_of_a_busy_server(self, life: LifecycleAPI, context: RequestContext) -> None:
        busy = make_instance(context, task_state=task_states.IMAGE_UPLOADING)
        with pytest.raises(exception.InstanceInvalidState, match="task_state image_uploading"):
            life.update_metadata(context, busy, {"a": "1"}, replace=False)
        failed = make_instance(context, vm_state=vm_states.ERROR)
        with pytest.raises(exception.InstanceInvalidState, match="vm_state error"):
            life.delete_metadata_item(context, failed, "a")


@pytest.mark.parametrize(
    ("name", "hostname"),
    [
        ("web", "web"),
        ("Web Server_1!", "web-server-1"),
        ("wéb.example.org", "wb.example.org"),
        ("..--x--..", "x"),
        ("a" * 70, "a" * 63),
        ("☃☃", "server-u"),
    ],
)
def test_a_hostname_is_made_of_the_name(name: str, hostname: str) -> None:
    assert request_for("i", name=name).hostname_of(0, "u") == hostname


def test_one_that_was_asked_for_stays() -> None:
    request = request_for("i", hostname="Db.Example")
    assert request.hostname_of(0, "u") == "Db.Example"
    assert server_request.ServerRequest("x", "i", FLAVOR).network == "auto"
