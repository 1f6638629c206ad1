# SPDX-License-Identifier: Apache-2.0
"""Instances in the database. The same tests run on MariaDB and PostgreSQL in tests/integration."""

import concurrent.futures
import datetime
import threading
import uuid

import pytest

from nova_snap import exception
from nova_snap.compute import task_states, vm_states
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db.session import Database
from nova_snap.objects.block_device import BlockDeviceMapping, BlockDeviceMappingList
from nova_snap.objects.instance import Flavor, Instance, InstanceFilters, InstanceList
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.instance_fault import InstanceFault
from tests.fixtures.service import PROJECT, make_context, make_instance

PENDING = task_states.IMAGE_SNAPSHOT_PENDING


class TestInstance:
    def test_what_was_created_is_found_again(self, context: RequestContext) -> None:
        made = make_instance(
            context,
            display_name="wéb ☃",
            metadata={"role": "db"},
            system_metadata={"image_hw_qemu_guest_agent": "yes", "owner_user_name": "kim"},
            flavor=Flavor("m1", 2, 512, root_gb=7, extra_specs={"a": "b"}),
        )
        found = Instance.get_by_uuid(context, made.uuid)
        assert found == made
        assert found.image_properties == {"hw_qemu_guest_agent": "yes"}
        assert found.launched_at == datetime.datetime(2026, 1, 2, 3, 4, 5)
        assert found.created_at is not None

    def test_another_projects_instance_is_not_found(
        self, context: RequestContext, database: Database
    ) -> None:
        made = make_instance(context, project_id="other")
        with pytest.raises(exception.InstanceNotFound, match=made.uuid):
            Instance.get_by_uuid(context, made.uuid)
        assert Instance.get_by_uuid(get_admin_context(database), made.uuid) == made

    def test_a_context_without_a_project_sees_nothing(
        self, context: RequestContext, database: Database
    ) -> None:
        made = make_instance(context)
        with pytest.raises(exception.InstanceNotFound):
            Instance.get_by_uuid(make_context(database, project_id=None), made.uuid)

    def test_save_writes_what_was_changed_and_nothing_else(self, context: RequestContext) -> None:
        made = make_instance(context)
        one = Instance.get_by_uuid(context, made.uuid)
        two = Instance.get_by_uuid(context, made.uuid)
        one.display_name = "renamed"
        one.metadata["key"] = "value"
        one.save()
        two.power_state = 4
        two.save()
        made.refresh()
        assert (made.display_name, made.metadata, made.power_state) == (
            "renamed",
            {"key": "value"},
            4,
        )
        assert made.updated_at is not None

    def test_save_swaps_only_what_it_expected(self, context: RequestContext) -> None:
        made = make_instance(context)
        late = Instance.get_by_uuid(context, made.uuid)
        made.task_state = PENDING
        made.save(expected_task_state=[None])
        late.task_state = PENDING
        late.display_name = "never"
        with pytest.raises(exception.UnexpectedTaskState) as caught:
            late.save(expected_task_state=[None])
        assert (caught.value.expected, caught.value.actual) == ([None], PENDING)
        made.refresh()
        assert made.display_name == "web"

    def test_save_takes_any_of_the_expected_states(self, context: RequestContext) -> None:
        made = make_instance(context)
        made.task_state = task_states.DELETING
        made.save(expected_task_state=[None, PENDING])
        made.refresh()
        assert made.task_state == task_states.DELETING

    def test_save_refuses_a_step_that_the_table_lacks(self, context: RequestContext) -> None:
        made = make_instance(context)
        made.task_state = task_states.IMAGE_UPLOADING
        with pytest.raises(exception.InvalidTransition):
            made.save(expected_task_state=[None])

    def test_save_finds_a_state_that_changed_behind_its_back(self, context: RequestContext) -> None:
        """The state in memory is unchanged, but the row has moved on."""
        made = make_instance(context, task_state=PENDING)
        other = Instance.get_by_uuid(context, made.uuid)
        other.task_state = None
        other.save(expected_task_state=[PENDING])
        made.display_name = "never"
        with pytest.raises(exception.UnexpectedTaskState):
            made.save(expected_task_state=[PENDING])

    def test_of_many_racing_requests_one_wins(self, context: RequestContext) -> None:
        made = make_instance(context)
        racers = 8
        start = threading.Barrier(racers, timeout=30)

        def race(number: int) -> int | None:
            mine = Instance.get_by_uuid(context, made.uuid)
            mine.task_state = PENDING
            mine.snapshot_image_id = str(number)
            start.wait()
            try:
                mine.save(expected_task_state=[None])
            except exception.UnexpectedTaskState:
                return None
            return number

        with concurrent.futures.ThreadPoolExecutor(racers) as pool:
            results = list(pool.map(race, range(racers)))
        winners = [number for number in results if number is not None]
        made.refresh()
        assert len(winners) == 1
        assert made.snapshot_image_id == str(winners[0])

    def test_a_destroyed_instance_is_gone(self, context: RequestContext) -> None:
        made = make_instance(context)
        late = Instance.get_by_uuid(context, made.uuid)
        made.destroy()
        for attempt in (made.destroy, late.refresh, lambda: late.save([None])):
            late.display_name += "x"
            with pytest.raises(exception.InstanceNotFound, match=made.uuid):
                attempt()
        with pytest.raises(exception.InstanceNotFound):
            Instance.get_by_uuid(context, made.uuid)

    def test_a_uuid_may_come_back(self, context: RequestContext) -> None:
        first = make_instance(context)
        first.destroy()
        second = make_instance(context, uuid=first.uuid, display_name="again")
        second.destroy()
        third = make_instance(context, uuid=first.uuid, display_name="and again")
        assert Instance.get_by_uuid(context, first.uuid) == third


class TestInstanceList:
    @pytest.fixture
    def three(self, context: RequestContext) -> list[Instance]:
        """In the order in which they were made."""
        return [
            make_instance(context, display_name="web-1", vm_state=vm_states.STOPPED),
            make_instance(context, display_name="web-2", task_state=PENDING),
            make_instance(
                context,
                display_name="db-1",
                project_id="other",
                host="compute-2",
                flavor=Flavor("m1.tiny", 1, 512, flavorid="42", extra_specs={"wéb": "é"}),
            ),
        ]

    @pytest.mark.parametrize(
        ("filters", "expected"),
        [
            pytest.param(InstanceFilters(), [2, 1, 0], id="none"),
            pytest.param(InstanceFilters(project_id=PROJECT), [1, 0], id="project"),
            pytest.param(InstanceFilters(host="compute-2"), [2], id="host"),
            pytest.param(InstanceFilters(name="web"), [1, 0], id="name-part"),
            pytest.param(InstanceFilters(name="^.*-1$"), [2, 0], id="name-expression"),
            pytest.param(InstanceFilters(name="%"), [], id="name-is-not-a-like"),
            pytest.param(InstanceFilters(vm_states=[vm_states.STOPPED]), [0], id="vm-state"),
            pytest.param(InstanceFilters(vm_states=[]), [], id="no-vm-state"),
            pytest.param(InstanceFilters(task_states=[PENDING]), [1], id="task-state"),
            pytest.param(InstanceFilters(task_states=[None]), [2, 0], id="no-task-state"),
            pytest.param(InstanceFilters(deleted=True), [], id="deleted"),
            pytest.param(InstanceFilters(flavorid="42"), [2], id="flavor"),
            pytest.param(InstanceFilters(flavorid="43"), [], id="no-flavor"),
        ],
    )
    def test_filters(
        self,
        context: RequestContext,
        three: list[Instance],
        filters: InstanceFilters,
        expected: list[int],
    ) -> None:
        found = InstanceList.get_by_filters(context, filters)
        assert [instance.uuid for instance in found] == [three[i].uuid for i in expected]

    def test_pages(self, context: RequestContext, three: list[Instance]) -> None:
        everything = InstanceFilters()
        seen, marker = [], None
        while page := InstanceList.get_by_filters(context, everything, limit=2, marker=marker):
            assert len(page) <= 2
            seen += [instance.uuid for instance in page]
            marker = seen[-1]
        assert seen == [instance.uuid for instance in reversed(three)]

    def test_a_page_goes_on_after_an_instance_that_is_gone(
        self, context: RequestContext, three: list[Instance]
    ) -> None:
        three[1].destroy()
        found = InstanceList.get_by_filters(context, InstanceFilters(), marker=three[1].uuid)
        assert [instance.uuid for instance in found] == [three[0].uuid]

    @pytest.mark.parametrize("filters", [InstanceFilters(), InstanceFilters(project_id=PROJECT)])
    def test_an_unknown_marker(
        self, context: RequestContext, three: list[Instance], filters: InstanceFilters
    ) -> None:
        marker = str(uuid.uuid4()) if filters.project_id is None else three[2].uuid
        with pytest.raises(exception.MarkerNotFound, match=marker):
            InstanceList.get_by_filters(context, filters, marker=marker)

    def test_an_expression_that_takes_for_ever_does_not(
        self, context: RequestContext, three: list[Instance]
    ) -> None:
        """Python's own would need a year for a name of 40 letters."""
        make_instance(context, display_name="a" * 254 + "!")
        wanted = make_instance(context, display_name="a" * 255)
        found = InstanceList.get_by_filters(context, InstanceFilters(name="^(a+)+$"))
        assert [instance.uuid for instance in found] == [wanted.uuid]

    @pytest.mark.parametrize("expression", ["web(", "*", "[a"])
    def test_a_bad_expression(self, context: RequestContext, expression: str) -> None:
        with pytest.raises(exception.InvalidFilter) as caught:
            InstanceList.get_by_filters(context, InstanceFilters(name=expression))
        assert expression in str(caught.value)

    def test_sorting(self, context: RequestContext, three: list[Instance]) -> None:
        found = InstanceList.get_by_filters(
            context, InstanceFilters(), sort=[("display_name", "asc")]
        )
        assert [instance.display_name for instance in found] == ["db-1", "web-1", "web-2"]

    def test_changes_since_shows_the_deleted_too(
        self, context: RequestContext, three: list[Instance]
    ) -> None:
        three[0].destroy()
        ever = InstanceFilters(changes_since=datetime.datetime(2020, 1, 1))
        found = {i.uuid: i for i in InstanceList.get_by_filters(context, ever)}
        assert found.keys() == {instance.uuid for instance in three}
        assert found[three[0].uuid].deleted
        assert found[three[0].uuid].vm_state == vm_states.DELETED
        later = InstanceFilters(changes_since=datetime.datetime(2100, 1, 1))
        assert InstanceList.get_by_filters(context, later) == []


@pytest.mark.parametrize("expression", ["(a+)+\\1", "(?:){2000000000}"])
def test_an_expression_that_sqlite_cannot_use(context: RequestContext, expression: str) -> None:
    """The other databases have bounds of their own."""
    with pytest.raises(exception.InvalidFilter, match="SQLite cannot use"):
        InstanceList.get_by_filters(context, InstanceFilters(name=expression))


class TestBlockDevices:
    def test_the_disks_of_several_instances(self, context: RequestContext) -> None:
        one, two = make_instance(context), make_instance(context)
        extra = BlockDeviceMapping("volume", "volume", volume_id="v", volume_size=3)
        BlockDeviceMappingList([extra]).create(context, two.uuid)
        found = BlockDeviceMappingList.by_instance_uuids(context, [one.uuid, two.uuid, "none"])
        assert [len(found[key]) for key in (one.uuid, two.uuid, "none")] == [1, 2, 0]
        assert found[two.uuid][1] == extra
        assert found[two.uuid].root_bdm() == BlockDeviceMapping(
            "image", "local", device_name="/dev/vda", boot_index=0
        )

    def test_an_instance_without_disks(self, context: RequestContext) -> None:
        disks = BlockDeviceMappingList.get_by_instance_uuid(context, str(uuid.uuid4()))
        assert len(disks) == 0
        assert disks.root_bdm() is None


class TestActions:
    def test_an_action_that_ends_well(self, context: RequestContext) -> None:
        made = make_instance(context)
        action = InstanceAction.start(context, made.uuid, "createImage")
        with InstanceActionEvent.record(context, action, "compute_snapshot", "host") as event:
            event.details = "mirror: because"
        action.finish(context)
        found = InstanceAction.get_by_request_id(context, made.uuid, context.request_id)
        assert found is not None
        assert (found.action, found.user_id, found.project_id, found.message) == (
            "createImage",
            context.user_id,
            PROJECT,
            None,
        )
        assert found.finish_time is not None
        assert found.finish_time >= found.start_time
        (step,) = found.events(context)
        assert (step.event, step.host, step.result, step.details) == (
            "compute_snapshot",
            "host",
            "Success",
            "mirror: because",
        )
        assert step.finish_time is not None
        assert step.traceback is None

    def test_an_action_that_fails(self, context: RequestContext) -> None:
        made = make_instance(context)
        action = InstanceAction.start(context, made.uuid, "createImage")
        with (
            pytest.raises(ValueError, match="too bad"),
            InstanceActionEvent.record(context, action, "compute_snapshot", "host"),
        ):
            raise ValueError("too bad")
        action.finish(context, "it failed " + "x" * 300)
        (found,) = InstanceAction.get_by_instance_uuid(context, made.uuid)
        assert found.message is not None
        assert found.message.startswith("it failed xxx")
        assert len(found.message) == 255
        (step,) = found.events(context)
        assert (step.result, step.details) == ("Error", "too bad")
        assert step.traceback is not None
        assert 'raise ValueError("too bad")' in step.traceback

    @pytest.mark.parametrize(
        ("error", "said"),
        [
            (exception.ImageNotFound(image_id="7f"), "Image 7f could not be found"),
            (ValueError("/var/lib/secret"), "An unexpected error occurred."),
        ],
    )
    def test_a_step_that_failed_is_never_seen_without_its_reason(
        self, context: RequestContext, error: Exception, said: str
    ) -> None:
        action = InstanceAction.start(context, make_instance(context).uuid, "createImage")
        with (
            pytest.raises(type(error)),
            InstanceActionEvent.record(context, action, "compute_snapshot", "host"),
        ):
            raise error
        (found,) = InstanceAction.get_by_instance_uuid(context, action.instance_uuid)
        assert found.message is not None
        assert said in found.message
        assert found.finish_time is None

    def test_a_step_that_fails_later_leaves_the_reason_of_the_action(
        self, context: RequestContext
    ) -> None:
        action = InstanceAction.start(context, make_instance(context).uuid, "createImage")

        def fail_when_it_was_given_up() -> None:
            with InstanceActionEvent.record(context, action, "compute_snapshot", "host"):
                action.finish(context, "the host is down")
                raise ValueError("late")

        with pytest.raises(ValueError, match="late"):
            fail_when_it_was_given_up()
        (found,) = InstanceAction.get_by_instance_uuid(context, action.instance_uuid)
        assert found.message == "the host is down"

    def test_the_first_reason_counts_where_that_is_asked_for(self, context: RequestContext) -> None:
        action = InstanceAction.start(context, make_instance(context).uuid, "createImage")
        action.finish(context, "the host is down", unless_ended=True)
        action.finish(context, "the image was deleted", unless_ended=True)
        (found,) = InstanceAction.get_by_instance_uuid(context, action.instance_uuid)
        assert found.message == "the host is down"
        # What is done again after a restart may end well.
        action.finish(context)
        (found,) = InstanceAction.get_by_instance_uuid(context, action.instance_uuid)
        assert found.message is None

    def test_an_action_of_another_request_is_not_found(self, context: RequestContext) -> None:
        made = make_instance(context)
        InstanceAction.start(context, made.uuid, "createImage")
        assert InstanceAction.get_by_request_id(context, made.uuid, "req-other") is None


class TestFaults:
    def test_the_newest_fault_of_each_instance(self, context: RequestContext) -> None:
        one, two = make_instance(context), make_instance(context)
        for made, message in [(one, "first"), (two, "other"), (one, "second " + "x" * 300)]:
            InstanceFault(made.uuid, 500, message, "details", "host").create(context)
        found = InstanceFault.latest_by_instance_uuids(context, [one.uuid, two.uuid])
        assert found[two.uuid].message == "other"
        assert found[one.uuid].message.startswith("second xxx")
        assert len(found[one.uuid].message) == 255
        assert found[one.uuid].details == "details"

    def test_an_instance_without_a_fault(self, context: RequestContext) -> None:
        made = make_instance(context)
        assert InstanceFault.latest_by_instance_uuids(context, [made.uuid]) == {}


class TestWhoseSnapshot:
    """A task_state says what is being done, and not for whom."""

    def test_a_step_is_refused_where_another_one_has_the_instance(
        self, context: RequestContext
    ) -> None:
        first, second = str(uuid.uuid4()), str(uuid.uuid4())
        state = task_states.IMAGE_SNAPSHOT
        instance = make_instance(context, task_state=state, snapshot_image_id=first)
        reset = Instance.get_by_uuid(context, instance.uuid)
        reset.snapshot_image_id = second
        reset.save()
        instance.task_state = task_states.IMAGE_PENDING_UPLOAD
        with pytest.raises(exception.SnapshotReplaced) as caught:
            instance.save(expected_task_state=state, expected_image_id=first)
        assert (caught.value.actual, caught.value.image_id) == (state, second)
        assert Instance.get_by_uuid(context, instance.uuid).task_state == state
        reset.task_state = task_states.IMAGE_PENDING_UPLOAD
        reset.save(expected_task_state=state, expected_image_id=second)
        now = Instance.get_by_uuid(context, instance.uuid)
        assert (now.task_state, now.snapshot_image_id) == (reset.task_state, second)

    def test_one_that_is_in_another_state_is_that_first_of_all(
        self, context: RequestContext
    ) -> None:
        instance = make_instance(context, task_state=task_states.DELETING)
        with pytest.raises(exception.UnexpectedTaskState) as caught:
            instance.save(expected_task_state=[None], expected_image_id="another")
        assert type(caught.value) is exception.UnexpectedTaskState

    def test_it_is_looked_at_where_nothing_is_to_be_written(self, context: RequestContext) -> None:
        instance = make_instance(context)
        instance.save(expected_image_id=None)
        with pytest.raises(exception.SnapshotReplaced):
            instance.save(expected_image_id="another")
        instance.destroy()
        with pytest.raises(exception.InstanceNotFound):
            instance.save(expected_image_id=None)
