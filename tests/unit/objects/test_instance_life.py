# SPDX-License-Identifier: Apache-2.0
"""What a created instance has besides an adopted one. The same tests run on MariaDB and PostgreSQL
in tests/integration."""

import concurrent.futures

import pytest

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.objects import instance_metadata, placement
from nova_snap.objects.instance import Flavor, Instance, InstanceFilters, InstanceList
from nova_snap.objects.quota import Usage
from tests.fixtures.service import PROJECT, USER, make_context, make_instance


class TestLife:
    def test_a_name_is_made_of_the_rows_number(self, context: RequestContext) -> None:
        names = []
        for template in ("guest-%04x", "%d", "i-%(uuid)s"):
            uuid = make_instance(context).uuid.replace("-", "")
            made = Instance(
                uuid=uuid, name=uuid, display_name="web", project_id=PROJECT, user_id=USER,
                flavor=Flavor("m1", 1, 1),
            )  # fmt: skip
            made.create(context, name_template=template)
            assert Instance.get_by_uuid(context, uuid).name == made.name
            names.append(made.name)
            if "uuid" in template:
                assert made.name == f"i-{uuid}"
        assert names[:2] == ["guest-0002", "4"]

    def test_what_a_project_uses(self, context: RequestContext) -> None:
        assert Usage.of_project(context, PROJECT) == Usage(0, 0, 0)
        make_instance(context, flavor=Flavor("a", vcpus=2, memory_mb=512))
        changed = make_instance(context, flavor=Flavor("b", vcpus=4, memory_mb=1024))
        make_instance(context, project_id="other")
        make_instance(context).destroy()
        assert Usage.of_project(context, PROJECT) == Usage(2, 6, 1536)
        changed.flavor = Flavor("c", vcpus=1, memory_mb=64)
        changed.save()
        assert Usage.of_project(context, PROJECT) == Usage(2, 3, 576)

    def test_what_hosts_have_given_away(self, context: RequestContext) -> None:
        flavor = Flavor("a", vcpus=2, memory_mb=512)
        for host in ("one", "one", "two", None):
            make_instance(context, host=host, flavor=flavor)
        make_instance(context, host="three").destroy()
        assert placement.memory_by_host(context) == {"one": 1024, "two": 512}

    def test_a_host_is_told_what_to_remove(self, context: RequestContext) -> None:
        told, untold = make_instance(context), make_instance(context)
        told.destroy()
        untold.destroy(cleanup_pending=True)
        filters = InstanceFilters(deleted=True, cleanup_pending=True)
        (found,) = InstanceList.get_by_filters(context, filters)
        assert (found.uuid, found.cleanup_pending) == (untold.uuid, True)
        found.cleaned_up()
        assert InstanceList.get_by_filters(context, filters) == []

    def test_metadata_that_change_at_the_same_time_do_not_lose(
        self, context: RequestContext
    ) -> None:
        instance = make_instance(context, metadata={"old": "value"})

        def add(number: int) -> None:
            own = make_context(context.db)
            instance_metadata.change(
                own, instance.uuid, lambda old: {**old, f"key-{number}": str(number)}
            )

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(add, range(12)))
        found = Instance.get_by_uuid(context, instance.uuid).metadata
        assert found == {"old": "value", **{f"key-{n}": str(n) for n in range(12)}}

    def test_metadata_of_an_instance_that_is_gone(self, context: RequestContext) -> None:
        instance = make_instance(context)
        instance.destroy()
        with pytest.raises(exception.InstanceNotFound):
            instance_metadata.change(context, instance.uuid, dict)

    def test_a_change_that_raises_changes_nothing(self, context: RequestContext) -> None:
        instance = make_instance(context, metadata={"a": "b"})

        def refuse(old: dict[str, str]) -> dict[str, str]:
            raise exception.MetadataItemNotFound(instance_uuid="u", key="k")

        with pytest.raises(exception.MetadataItemNotFound):
            instance_metadata.change(context, instance.uuid, refuse)
        assert Instance.get_by_uuid(context, instance.uuid).metadata == {"a": "b"}
