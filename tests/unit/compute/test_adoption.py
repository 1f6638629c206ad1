# SPDX-License-Identifier: Apache-2.0
"""Domains that become instances."""

import dataclasses
import datetime
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import adoption, power_state, vm_states
from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db.session import Database
from nova_snap.objects.block_device import BlockDeviceMapping, BlockDeviceMappingList
from nova_snap.objects.instance import Flavor, Instance, InstanceFilters, InstanceList
from nova_snap.virt.driver import AdoptedDisk, AdoptedDomain
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages

UUID = "0c1e5b5e-6f8e-4e0b-9a55-3d0a8d1f4f11"
VOLUME = "8d7ad6c8-54c1-4c5a-9f0b-1a6d8c0a5d77"
OTHER_VOLUME = "8d7ad6c8-54c1-4c5a-9f0b-1a6d8c0a5d78"
OWNER = adoption.Owner("given-project", "given-user")
NOBODY = adoption.Owner(None, None)

PLAIN = AdoptedDomain(
    uuid=UUID,
    name="guest-1",
    state=power_state.RUNNING,
    vcpus=2,
    memory_mb=1024,
    disks=[AdoptedDisk("vda", "virtio", "file", "/disks/guest-1", "qcow2", size_gb=4)],
    os_type="linux",
    architecture="x86_64",
)


@pytest.fixture
def images() -> MemoryImages:
    return MemoryImages()


@pytest.fixture
def driver(conf: cfg.ConfigOpts, images: MemoryImages) -> FakeDriver:
    return FakeDriver(conf, images)


@pytest.fixture
def admin(database: Database) -> RequestContext:
    return get_admin_context(database)


class TestAdopt:
    @pytest.fixture(autouse=True)
    def parts(self, admin: RequestContext, driver: FakeDriver, images: MemoryImages) -> None:
        self.admin, self.driver, self.images = admin, driver, images

    def adopt(
        self, domain: AdoptedDomain = PLAIN, owner: adoption.Owner = OWNER, **changes: Any
    ) -> tuple[Instance, bool]:
        made = dataclasses.replace(domain, **changes)
        self.driver.add_domain(made)
        return adoption.adopt(self.admin, self.driver, self.images, "compute-1", made.name, owner)

    def test_a_plain_domain(self) -> None:
        instance, new = self.adopt()
        assert new
        found = Instance.get_by_uuid(self.admin, UUID)
        assert found == instance
        assert (found.name, found.display_name, found.host) == ("guest-1", "guest-1", "compute-1")
        assert (found.project_id, found.user_id) == ("given-project", "given-user")
        assert (found.vm_state, found.power_state) == (vm_states.ACTIVE, power_state.RUNNING)
        assert found.flavor == Flavor("adopted", vcpus=2, memory_mb=1024, root_gb=4)
        assert (found.os_type, found.architecture) == ("linux", "x86_64")
        assert found.root_device_name == "/dev/vda"
        assert found.launched_at is not None
        assert list(BlockDeviceMappingList.get_by_instance_uuid(self.admin, UUID)) == [
            BlockDeviceMapping(
                "blank",
                "local",
                device_type="disk",
                disk_bus="virtio",
                device_name="/dev/vda",
                boot_index=0,
                volume_size=4,
                delete_on_termination=True,
            )
        ]

    @pytest.mark.parametrize(
        ("changes", "said"),
        [
            ({"display_name": "x" * 256}, "display name is 256"),
            ({"project_id": "x" * 256}, "project is 256"),
            ({"flavor_name": "x" * 300}, "flavor's name is 300"),
            ({"disks": [AdoptedDisk("v" * 251, "virtio", "file", "/d", "raw")]}, "name is 256"),
            ({"disks": [AdoptedDisk("vda", "b" * 256, "file", "/d", "raw")]}, "disk's bus"),
        ],
    )
    def test_a_text_that_no_column_holds(self, changes: dict[str, Any], said: str) -> None:
        with pytest.raises(exception.InvalidDomain, match=said):
            self.adopt(**changes)
        assert InstanceList.get_by_filters(self.admin, InstanceFilters()) == []

    @pytest.mark.parametrize("serial", [f"{{{VOLUME}}}", f"urn:uuid:{VOLUME}", VOLUME[:-1]])
    def test_a_serial_number_that_only_looks_like_a_volumes(self, serial: str) -> None:
        disk = dataclasses.replace(PLAIN.disks[0], serial=serial)
        self.adopt(disks=[disk])
        (found,) = BlockDeviceMappingList.get_by_instance_uuid(self.admin, UUID)
        assert (found.volume_id, found.source_type) == (None, "blank")

    def test_a_domain_of_nova(self) -> None:
        base = self.images.create(
            self.admin,
            {
                "name": "debian",
                "min_disk": 3,
                "disk_format": "qcow2",
                "properties": {"hw_qemu_guest_agent": "yes", "long": "x" * 300},
            },
        )["id"]
        self.adopt(
            owner=NOBODY,
            display_name="web",
            project_id="nova-project",
            project_name="shop",
            user_id="nova-user",
            user_name="kim",
            image_ref=base,
            flavor_name="m1.small",
            root_gb=20,
            ephemeral_gb=5,
            swap_mb=64,
            created_at="2026-02-03 04:05:06",
        )
        found = Instance.get_by_uuid(self.admin, UUID)
        assert (found.display_name, found.image_ref) == ("web", base)
        assert (found.project_id, found.user_id) == ("nova-project", "nova-user")
        assert found.flavor == Flavor("m1.small", 2, 1024, root_gb=20, ephemeral_gb=5, swap=64)
        assert found.launched_at == datetime.datetime(2026, 2, 3, 4, 5, 6)
        assert found.system_metadata == {
            "base_image_ref": base,
            "image_disk_format": "qcow2",
            "image_hw_qemu_guest_agent": "yes",
            "image_long": "x" * 255,
            "image_min_disk": "3",
            "owner_project_name": "shop",
            "owner_user_name": "kim",
        }
        (root,) = BlockDeviceMappingList.get_by_instance_uuid(self.admin, UUID)
        assert (root.source_type, root.image_id) == ("image", base)

    def test_novas_owner_wins_over_the_given_one(self) -> None:
        instance, _ = self.adopt(project_id="nova-project", user_id="nova-user")
        assert (instance.project_id, instance.user_id) == ("nova-project", "nova-user")

    def test_an_image_that_is_gone_does_not_matter(self) -> None:
        instance, _ = self.adopt(image_ref=VOLUME)
        assert instance.image_ref == VOLUME
        assert instance.system_metadata == {"base_image_ref": VOLUME}

    def test_properties_that_the_domain_shows_itself(self) -> None:
        instance, _ = self.adopt(image_properties={"hw_qemu_guest_agent": "yes"})
        assert instance.image_properties == {"hw_qemu_guest_agent": "yes"}

    def test_twice_changes_nothing(self) -> None:
        first, _ = self.adopt()
        first.display_name = "renamed"
        first.save()
        again, new = self.adopt(owner=adoption.Owner("other", "other"))
        assert not new
        assert (again.display_name, again.project_id) == ("renamed", "given-project")
        assert len(InstanceList.get_by_filters(self.admin, InstanceFilters())) == 1
        assert len(BlockDeviceMappingList.get_by_instance_uuid(self.admin, UUID)) == 1

    def test_an_image_that_could_not_be_asked_for_is_asked_for_again(self) -> None:
        image_id = self.images.create(self.admin, {"name": "base", "min_disk": 3})["id"]
        self.images.records[image_id]["hw_qemu_guest_agent"] = "yes"
        self.images.fail["get"] = exception.ImageServiceUnavailable(endpoint="x", reason="down")
        of_nova = {"image_ref": image_id, "image_properties": {"hw_machine_type": "q35"}}
        instance, _ = self.adopt(**of_nova)
        assert instance.image_properties == {"hw_machine_type": "q35"}
        del self.images.fail["get"]
        again, new = self.adopt(**of_nova)
        assert not new
        stored = Instance.get_by_uuid(self.admin, UUID)
        assert stored.image_properties == again.image_properties
        expected = {"hw_machine_type": "q35", "hw_qemu_guest_agent": "yes", "min_disk": "3"}
        assert {key: stored.image_properties.get(key) for key in expected} == expected
        # Once it is known, it is the instance's own: the image may change.
        self.images.records[image_id]["hw_qemu_guest_agent"] = "no"
        self.adopt(**of_nova)
        assert Instance.get_by_uuid(self.admin, UUID) == stored

    def test_what_another_host_has_is_refused(self) -> None:
        first, _ = self.adopt()
        first.host = "compute-2"
        first.save()
        with pytest.raises(exception.AlreadyAdopted, match="compute-2"):
            self.adopt()

    def test_after_it_was_forgotten(self) -> None:
        first, _ = self.adopt()
        first.destroy()
        again, new = self.adopt()
        assert new
        assert Instance.get_by_uuid(self.admin, UUID) == again
        assert len(BlockDeviceMappingList.get_by_instance_uuid(self.admin, UUID)) == 1

    @pytest.mark.parametrize(
        "owner", [NOBODY, adoption.Owner("p", None), adoption.Owner(None, "u")]
    )
    def test_nobodys_domain_is_refused(self, owner: adoption.Owner) -> None:
        with pytest.raises(exception.InvalidDomain, match="--project and --user"):
            self.adopt(owner=owner)
        assert InstanceList.get_by_filters(self.admin, InstanceFilters()) == []

    @pytest.mark.parametrize(
        "disks", [[], [AdoptedDisk("hda", "ide", "file", "/x.iso", "raw", device_type="cdrom")]]
    )
    def test_a_domain_without_a_disk_is_refused(self, disks: list[AdoptedDisk]) -> None:
        with pytest.raises(exception.InvalidDomain, match="no disk"):
            self.adopt(disks=disks)
        assert InstanceList.get_by_filters(self.admin, InstanceFilters()) == []

    def test_a_domain_that_is_not_there(self) -> None:
        with pytest.raises(exception.DomainNotFound, match="nobody"):
            adoption.adopt(self.admin, self.driver, self.images, "compute-1", "nobody", OWNER)

    @pytest.mark.parametrize(
        ("state", "saved", "vm_state"),
        [
            (power_state.RUNNING, False, vm_states.ACTIVE),
            (power_state.PAUSED, False, vm_states.PAUSED),
            (power_state.SHUTDOWN, False, vm_states.STOPPED),
            (power_state.SHUTDOWN, True, vm_states.SUSPENDED),
            (power_state.CRASHED, False, vm_states.STOPPED),
            (power_state.SUSPENDED, False, vm_states.SUSPENDED),
            (power_state.NOSTATE, False, vm_states.ACTIVE),
        ],
    )
    def test_vm_state(self, state: int, saved: bool, vm_state: str) -> None:
        instance, _ = self.adopt(state=state, has_managed_save=saved)
        assert (instance.vm_state, instance.power_state) == (vm_state, state)

    def test_again_after_volumes_were_attached_and_detached(self) -> None:
        root = AdoptedDisk("vda", "virtio", "network", None, "raw", serial=VOLUME, size_gb=2)
        old = AdoptedDisk("vdb", "virtio", "network", None, "raw", serial=OTHER_VOLUME, size_gb=1)
        new = dataclasses.replace(old, device_name="vdc")
        self.adopt(disks=[root, old])
        before = BlockDeviceMappingList.get_by_instance_uuid(self.admin, UUID)
        _, made = self.adopt(disks=[root, new])
        assert not made
        after = BlockDeviceMappingList.get_by_instance_uuid(self.admin, UUID)
        assert after[0] == before[0]
        assert [disk.device_name for disk in after] == ["/dev/vda", "/dev/vdc"]
        assert [disk.volume_id for disk in after] == [VOLUME, OTHER_VOLUME]

    def test_a_volume_is_known_by_its_serial(self) -> None:
        root = AdoptedDisk("vda", "virtio", "network", None, "raw", serial=VOLUME, size_gb=2)
        data = AdoptedDisk("vdb", "virtio", "file", "/disks/data", "raw", serial="WD-1")
        config = AdoptedDisk("hdd", "ide", "file", "/disk.config", "raw", device_type="cdrom")
        self.adopt(disks=[config, root, data])
        first, second = BlockDeviceMappingList.get_by_instance_uuid(self.admin, UUID)
        assert (first.source_type, first.destination_type, first.volume_id) == (
            "volume",
            "volume",
            VOLUME,
        )
        assert (first.boot_index, first.delete_on_termination) == (0, False)
        assert (second.source_type, second.destination_type, second.boot_index) == (
            "blank",
            "local",
            -1,
        )

    def test_a_time_that_cannot_be_read(self) -> None:
        instance, _ = self.adopt(created_at="yesterday")
        assert instance.launched_at is not None
