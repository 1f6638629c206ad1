# SPDX-License-Identifier: Apache-2.0
"""Flavors in the database. The same tests run on MariaDB and PostgreSQL in tests/integration."""

import pytest

from nova_snap import exception
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.objects.flavor import Flavor, FlavorList

SIZES = {"a": (512, 1), "b": (1024, 0), "c": (512, 20), "d": (2048, 10)}


@pytest.fixture
def admin(context: RequestContext) -> RequestContext:
    return get_admin_context(context.db)


def make(admin: RequestContext, flavorid: str, **values: object) -> Flavor:
    given = {"name": f"m1.{flavorid}", "memory_mb": 512, "vcpus": 1, "root_gb": 1, **values}
    flavor = Flavor(flavorid=flavorid, **given)  # type: ignore[arg-type]
    flavor.create(admin)
    return flavor


@pytest.fixture
def flavors(admin: RequestContext) -> None:
    for flavorid, (memory_mb, root_gb) in SIZES.items():
        make(admin, flavorid, memory_mb=memory_mb, root_gb=root_gb)


def ids(found: list[Flavor]) -> list[str]:
    return [flavor.flavorid for flavor in found]


class TestFlavor:
    def test_what_was_created_is_found_again(
        self, admin: RequestContext, context: RequestContext
    ) -> None:
        made = make(
            admin, "42", swap=64, rxtx_factor=2.5, description="wéb", extra_specs={"a": "b"}
        )
        found = Flavor.get_by_flavor_id(context, "42")
        assert found == made
        assert found.created_at is not None

    def test_there_is_none_of_that_id(self, context: RequestContext) -> None:
        with pytest.raises(exception.FlavorNotFound, match="Flavor 7 could not be found"):
            Flavor.get_by_flavor_id(context, "7")

    def test_a_private_one_is_for_administrators(
        self, admin: RequestContext, context: RequestContext
    ) -> None:
        private = make(admin, "p", is_public=False)
        with pytest.raises(exception.FlavorNotFound):
            Flavor.get_by_flavor_id(context, "p")
        assert Flavor.get_by_flavor_id(admin, "p") == private

    def test_an_id_and_a_name_are_taken_once(self, admin: RequestContext) -> None:
        make(admin, "a")
        with pytest.raises(exception.FlavorIdExists, match="ID a already"):
            make(admin, "a", name="other")
        with pytest.raises(exception.FlavorExists, match=r"name m1\.a already"):
            make(admin, "b", name="m1.a")
        assert ids(FlavorList.get_all(admin)) == ["a"]

    def test_a_deleted_one_is_gone_and_its_names_are_free(self, admin: RequestContext) -> None:
        flavor = make(admin, "a")
        flavor.destroy(admin)
        with pytest.raises(exception.FlavorNotFound):
            flavor.destroy(admin)
        make(admin, "a")

    def test_it_is_described(self, admin: RequestContext) -> None:
        flavor = make(admin, "a", description="old")
        for description in ("new", "", None):
            flavor.describe(admin, description)
            assert flavor.description == description
            assert Flavor.get_by_flavor_id(admin, "a") == flavor

    def test_extra_specs_are_added_and_taken_away(self, admin: RequestContext) -> None:
        flavor = make(admin, "a", extra_specs={"x": "1", "y": "2"})
        flavor.set_extra_specs(admin, {"y": "3", "z": "wéb"})
        assert flavor.extra_specs == {"x": "1", "y": "3", "z": "wéb"}
        flavor.delete_extra_spec(admin, "x")
        assert flavor.extra_specs == {"y": "3", "z": "wéb"}
        assert Flavor.get_by_flavor_id(admin, "a") == flavor
        with pytest.raises(exception.FlavorExtraSpecNotFound, match="a has no extra specs with"):
            flavor.delete_extra_spec(admin, "x")

    def test_none_of_two_changes_is_lost(self, admin: RequestContext) -> None:
        first = make(admin, "a")
        second = Flavor.get_by_flavor_id(admin, "a")
        first.set_extra_specs(admin, {"x": "1"})
        second.set_extra_specs(admin, {"y": "2"})
        second.describe(admin, "described")
        first.set_extra_specs(admin, {"z": "3"})
        assert first.extra_specs == {"x": "1", "y": "2", "z": "3"}
        assert Flavor.get_by_flavor_id(admin, "a") == first

    def test_a_deleted_one_does_not_change(self, admin: RequestContext) -> None:
        flavor = make(admin, "a")
        Flavor.get_by_flavor_id(admin, "a").destroy(admin)
        with pytest.raises(exception.FlavorNotFound):
            flavor.set_extra_specs(admin, {"x": "1"})
        with pytest.raises(exception.FlavorNotFound):
            flavor.describe(admin, "new")

    def test_an_instance_keeps_a_copy(self, admin: RequestContext) -> None:
        flavor = make(admin, "a", extra_specs={"hw:x": "1"}, swap=5, ephemeral_gb=3)
        copy = flavor.for_instance()
        assert (copy.name, copy.flavorid, copy.swap) == ("m1.a", "a", 5)
        assert (copy.ephemeral_gb, copy.extra_specs) == (3, {"hw:x": "1"})
        copy.extra_specs["hw:x"] = "2"
        assert flavor.extra_specs == {"hw:x": "1"}


@pytest.mark.usefixtures("flavors")
class TestFlavorList:
    def test_all_by_id(self, context: RequestContext) -> None:
        assert ids(FlavorList.get_all(context)) == ["a", "b", "c", "d"]

    def test_the_large_ones(self, context: RequestContext) -> None:
        assert ids(FlavorList.get_all(context, min_memory_mb=1024)) == ["b", "d"]
        assert ids(FlavorList.get_all(context, min_root_gb=10)) == ["c", "d"]

    @pytest.mark.parametrize(
        ("sort", "expected"),
        [
            ([("memory_mb", "asc")], ["a", "c", "b", "d"]),
            ([("memory_mb", "desc"), ("root_gb", "desc")], ["d", "b", "c", "a"]),
            ([("description", "desc")], ["a", "b", "c", "d"]),
        ],
    )
    def test_pages_in_any_order(
        self, context: RequestContext, sort: list[tuple[str, str]], expected: list[str]
    ) -> None:
        seen: list[str] = []
        marker = None
        while page := FlavorList.get_all(context, limit=1, marker=marker, sort=sort):
            assert len(page) == 1
            marker = page[0].flavorid
            seen.append(marker)
        assert seen == expected

    def test_a_marker_that_is_none(self, context: RequestContext) -> None:
        with pytest.raises(exception.MarkerNotFound):
            FlavorList.get_all(context, marker="z")

    def test_private_ones(self, admin: RequestContext, context: RequestContext) -> None:
        make(admin, "p", is_public=False)
        assert ids(FlavorList.get_all(admin, is_public=False)) == ["p"]
        assert len(FlavorList.get_all(admin, is_public=None)) == len(SIZES) + 1
        assert ids(FlavorList.get_all(context, is_public=False)) == list(SIZES)
        with pytest.raises(exception.MarkerNotFound):
            FlavorList.get_all(context, marker="p")
