# SPDX-License-Identifier: Apache-2.0
"""What the driver says of real domains."""

import uuid

import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from tests.fixtures.domain_xml import NovaMetadata, nova_metadata_xml
from tests.functional import snapshot_parts as parts

IMAGE = "9e3d1b8c-9a70-4c0e-9d3f-5d2f6a1e0001"


@pytest.fixture
def world(libvirt_lab, tmp_path):
    with parts.open_world(libvirt_lab, tmp_path) as made:
        yield made


def test_domain_of_nova(libvirt_lab, world):
    metadata = NovaMetadata(
        name="web server", flavor="m1.tiny", memory_mib=512, disk_gib=3, swap_mib=64,
        ephemeral_gib=1, vcpus=2, user_id="u1", user_name="demo", project_id="p1",
        project_name="Demo", image_id=IMAGE,
    )  # fmt: skip
    disk = libvirt_lab.make_disk("qcow2-backed", "nova", (1 << 30) + 512)
    guest = libvirt_lab.define_guest(
        "instance-00000007", disk, metadata_xml=nova_metadata_xml(metadata)
    )
    found = world.driver.describe_domain(guest.name)
    assert (found.uuid, found.name, found.state) == (guest.uuid, guest.name, power_state.SHUTDOWN)
    assert (found.display_name, found.image_ref) == ("web server", IMAGE)
    assert (found.project_id, found.project_name) == ("p1", "Demo")
    assert (found.user_id, found.user_name) == ("u1", "demo")
    # The flavor's, which need not be what the domain has at this moment.
    assert (found.vcpus, found.memory_mb) == (2, 512)
    assert (found.flavor_name, found.root_gb, found.ephemeral_gb, found.swap_mb) == (
        "m1.tiny", 3, 1, 64,
    )  # fmt: skip
    assert found.architecture == "x86_64"
    assert found.image_properties["hw_qemu_guest_agent"] == "yes"
    (root,) = [disk for disk in found.disks if disk.device_type == "disk"]
    assert (root.device_name, root.bus, root.source_type) == ("vda", "virtio", "file")
    assert (root.source, root.format) == (str(disk.path), "qcow2")
    assert root.size_gb == 2


def test_domain_of_somebody_else(libvirt_lab, world):
    guest = libvirt_lab.define_guest(
        "plain", libvirt_lab.make_disk("raw"), agent=False, memory_mib=192
    )
    found = world.driver.describe_domain("plain")
    assert (found.vcpus, found.memory_mb) == (1, 192)
    assert found.project_id is found.display_name is found.image_ref is found.root_gb is None
    assert found.image_properties == {}
    assert found.disks[0].size_gb == 1
    assert found.disks[0].source == str(guest.disk_path)


def test_states(libvirt_lab, world):
    guest = libvirt_lab.define_guest("states", libvirt_lab.make_disk("qcow2"))
    instance = parts.Instance(guest.uuid, guest.name)

    def seen():
        described = world.driver.describe_domain(guest.name)
        assert described.state == world.driver.get_info(instance).state
        return described.state, described.has_managed_save

    assert seen() == (power_state.SHUTDOWN, False)
    guest.start(paused=True)
    assert seen() == (power_state.PAUSED, False)
    guest.resume()
    assert seen() == (power_state.RUNNING, False)
    guest.managed_save()
    assert seen() == (power_state.SHUTDOWN, True)


def test_list(libvirt_lab, world):
    assert world.driver.list_domains() == []
    for name in ("b", "a"):
        libvirt_lab.define_guest(name, libvirt_lab.make_disk("qcow2", name))
    assert world.driver.list_domains() == ["a", "b"]


def test_no_such_domain(world):
    instance = parts.Instance(str(uuid.uuid4()), "nobody")
    with pytest.raises(exception.DomainNotFound):
        world.driver.get_info(instance)
    with pytest.raises(exception.DomainNotFound):
        world.driver.describe_domain("nobody")
    with pytest.raises(exception.SnapshotFailed, match="nobody is not defined") as caught:
        world.driver.snapshot(world.context, instance, "image", parts.States())
    assert (caught.value.method, caught.value.phase) == ("none", "image_snapshot")
    world.driver.clean_up_after_restart(instance)


def test_domain_without_a_disk(libvirt_lab, world):
    guest = libvirt_lab.define_guest("diskless", libvirt_lab.make_disk("qcow2", "diskless"))
    xml = guest.xml(inactive=True)
    start, end = xml.index("<disk"), xml.rindex("</disk>") + len("</disk>")
    libvirt_lab.connect().defineXML(xml[:start] + xml[end:])
    with pytest.raises(exception.SnapshotFailed) as caught:
        world.driver.snapshot(
            world.context, parts.Instance(guest.uuid, guest.name), "image", parts.States()
        )
    assert isinstance(caught.value.__cause__, exception.DiskNotFound)


def test_image_that_is_gone_before_it_began(libvirt_lab, world, monkeypatch):
    guest = libvirt_lab.define_guest("gone", libvirt_lab.make_disk("qcow2", "gone"))

    def get(context, image_id):
        raise exception.ImageNotFound(image_id=image_id)

    monkeypatch.setattr(world.images, "get", get)
    with pytest.raises(exception.ImageNotFound):
        world.driver.snapshot(
            world.context, parts.Instance(guest.uuid, guest.name), "image", parts.States()
        )
    assert world.leftovers() == []


def test_base_image_that_is_gone_does_not_matter(libvirt_lab, world, monkeypatch):
    guest = libvirt_lab.define_guest("baseless", libvirt_lab.make_disk("qcow2", "baseless"))
    get = world.images.get

    def get_snapshot_only(context, image_id):
        if image_id == IMAGE:
            raise exception.ImageNotFound(image_id=image_id)
        return get(context, image_id)

    monkeypatch.setattr(world.images, "get", get_snapshot_only)
    instance = parts.Instance(guest.uuid, guest.name, image_ref=IMAGE)
    report = world.driver.snapshot(world.context, instance, "image", parts.States())
    assert report.uploaded_bytes == (world.images.directory / "image").stat().st_size
