# SPDX-License-Identifier: Apache-2.0
"""Services and compute nodes. The same tests run on MariaDB and PostgreSQL in tests/integration."""

import concurrent.futures
import datetime

import pytest
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.db import service_queries
from nova_snap.db.session import Database
from nova_snap.objects.service import COMPUTE, ComputeNode, Service
from tests.fixtures.service import make_context

DOWN_TIME = 60


def register(context: RequestContext, host: str = "compute-1") -> Service:
    return Service.register(context, host, COMPUTE, "topic")


def seen(service: Service, seconds: float) -> Service:
    """The service as it is when its last report says ``seconds`` ago."""
    service.last_seen_up = timeutils.utcnow() - datetime.timedelta(seconds=seconds)
    return service


class TestService:
    def test_who_registers_is_there_and_up(self, context: RequestContext) -> None:
        made = register(context)
        assert Service.get_by_id(context, made.id) == made
        assert Service.get_by_uuid(context, made.uuid) == made
        assert Service.get_by_host(context, "compute-1") == made
        assert (made.host, made.binary, made.topic) == ("compute-1", COMPUTE, "topic")
        assert made.is_up(DOWN_TIME)
        assert not made.disabled

    def test_who_registers_again_stays_what_he_was(self, context: RequestContext) -> None:
        made = register(context)
        made.disabled, made.disabled_reason = True, "a new disk"
        made.save(context)
        again = register(context)
        assert (again.id, again.uuid) == (made.id, made.uuid)
        assert (again.disabled, again.disabled_reason) == (True, "a new disk")

    def test_many_may_register_at_once(self, database: Database) -> None:
        contexts = [make_context(database) for _ in range(4)]
        with concurrent.futures.ThreadPoolExecutor(len(contexts)) as pool:
            ids = {made.id for made in pool.map(register, contexts)}
        assert len(ids) == 1

    def test_a_report_counts(self, context: RequestContext) -> None:
        made = seen(register(context), 1000)
        made.report(context)
        made.report(context)
        found = Service.get_by_id(context, made.id)
        assert found.report_count == made.report_count == 2
        assert found.is_up(DOWN_TIME)
        assert found.updated_at is None, "a report is no change"

    def test_who_only_ends_his_work_is_down_but_not_silent(
        self, context: RequestContext, database: Database
    ) -> None:
        made = register(context)
        long_ago = timeutils.utcnow() - datetime.timedelta(seconds=1000)
        with database.writer() as session:
            values = {"last_seen_up": long_ago, "created_at": long_ago, "updated_at": long_ago}
            service_queries.service_update(session, made.id, values)
        found = Service.get_by_id(context, made.id)
        assert found.last_sign == long_ago
        found.report_ending(context)
        again = Service.get_by_id(context, made.id)
        assert not again.is_up(DOWN_TIME)
        assert (timeutils.utcnow() - again.last_sign).total_seconds() < DOWN_TIME
        assert again.report_count == 1
        again.destroy(context)
        with pytest.raises(exception.ServiceNotFound):
            again.report_ending(context)

    @pytest.mark.parametrize(
        ("seconds", "up"),
        [
            pytest.param(0, True, id="now"),
            pytest.param(DOWN_TIME - 5, True, id="in-time"),
            pytest.param(DOWN_TIME + 5, False, id="late"),
            pytest.param(5 - DOWN_TIME, True, id="clock-ahead"),
            pytest.param(-DOWN_TIME - 5, False, id="clock-far-ahead"),
        ],
    )
    def test_who_has_not_reported_is_down(
        self, context: RequestContext, seconds: float, up: bool
    ) -> None:
        assert seen(register(context), seconds).is_up(DOWN_TIME) is up

    def test_who_is_forced_down_is_down_whatever_he_reports(self, context: RequestContext) -> None:
        made = register(context)
        made.forced_down = True
        made.save(context)
        made.report(context)
        assert not Service.get_by_id(context, made.id).is_up(DOWN_TIME)

    def test_new_work_goes_to_who_is_up_and_enabled(self, context: RequestContext) -> None:
        for host in ("up", "disabled", "down"):
            register(context, host)
        Service.register(context, "other", "nova-conductor", "topic")
        disabled = Service.get_by_host(context, "disabled")
        disabled.disabled = True
        disabled.save(context)
        down = Service.get_by_host(context, "down")
        down.forced_down = True
        down.save(context)
        assert [each.host for each in Service.get_up(context, DOWN_TIME)] == ["up"]

    def test_a_list_may_be_of_one_host_or_binary(self, context: RequestContext) -> None:
        register(context, "a")
        register(context, "b")
        Service.register(context, "a", "nova-conductor", "topic")

        def listed(**by: str) -> list[tuple[str, str]]:
            return [(each.host, each.binary) for each in Service.get_all(context, **by)]

        assert listed() == [("a", COMPUTE), ("b", COMPUTE), ("a", "nova-conductor")]
        assert listed(host="a") == [("a", COMPUTE), ("a", "nova-conductor")]
        assert listed(host="a", binary=COMPUTE) == [("a", COMPUTE)]
        assert listed(binary="nova-api") == []

    def test_a_deleted_service_is_gone_with_its_node(self, context: RequestContext) -> None:
        made = register(context)
        ComputeNode.record(context, made, {"vcpus": 4})
        made.destroy(context)
        assert Service.get_all(context) == []
        assert ComputeNode.get_all(context) == []
        for act in (made.destroy, made.report, made.save):
            with pytest.raises(exception.ServiceNotFound, match=made.uuid):
                act(context)
        with pytest.raises(exception.ServiceNotFound, match=str(made.id)):
            Service.get_by_id(context, made.id)
        with pytest.raises(exception.HostBinaryNotFound, match="nova-compute on host compute-1"):
            Service.get_by_host(context, "compute-1")


class TestComputeNode:
    def test_what_a_host_has_is_kept_once(self, context: RequestContext) -> None:
        service = register(context)
        ComputeNode.record(context, service, {"vcpus": 4})
        (first,) = ComputeNode.get_all(context)
        ComputeNode.record(context, service, {"vcpus": 8, "cpu_info": {"arch": "x86_64"}})
        (second,) = ComputeNode.get_all(context)
        assert second.resources == {"vcpus": 8, "cpu_info": {"arch": "x86_64"}}
        assert (second.id, second.uuid) == (first.id, first.uuid)
        assert (second.hypervisor_hostname, second.service) == ("compute-1", service)
        assert ComputeNode.get_by_id(context, second.id) == second
        assert ComputeNode.get_by_uuid(context, second.uuid) == second

    def test_pages_and_patterns(self, context: RequestContext) -> None:
        for host in ("rack1-a", "rack1-b", "rack_-c"):
            ComputeNode.record(context, register(context, host), {})

        def names(**by: object) -> list[str]:
            found = ComputeNode.get_all(context, **by)  # type: ignore[arg-type]
            return [each.hypervisor_hostname for each in found]

        assert names() == ["rack1-a", "rack1-b", "rack_-c"]
        assert names(pattern="rack1") == ["rack1-a", "rack1-b"]
        assert names(pattern="rack_") == ["rack_-c"]
        first, second, _ = ComputeNode.get_all(context)
        assert names(limit=2) == ["rack1-a", "rack1-b"]
        assert names(limit=2, marker=second.id) == ["rack_-c"]
        assert names(limit=1, marker=first.id) == ["rack1-b"]

    def test_one_that_is_not_there(self, context: RequestContext) -> None:
        with pytest.raises(exception.ComputeHostNotFound, match="Compute host 7 could"):
            ComputeNode.get_by_id(context, 7)
        with pytest.raises(exception.ComputeHostNotFound, match="Compute host no could"):
            ComputeNode.get_by_uuid(context, "no")
