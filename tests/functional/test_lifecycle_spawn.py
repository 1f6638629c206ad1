# SPDX-License-Identifier: Apache-2.0
"""What an instance is made of, and what a failure leaves: nothing."""

import hashlib
import itertools
import json
import subprocess
import threading
import uuid

import libvirt
import pytest

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import domain_builder, nova_metadata
from nova_snap.virt.libvirt.qemu_img import QemuImg
from tests.fixtures import disk_image
from tests.fixtures.commands import run
from tests.fixtures.guest.disk import guest_disk
from tests.functional import lifecycle_parts as parts
from tests.functional import snapshot_parts

MIB = 1 << 20


@pytest.fixture
def world(libvirt_lab, tmp_path):
    with parts.open_world(libvirt_lab, tmp_path) as made:
        yield made


@pytest.fixture
def small(world, tmp_path):
    """An image that does not boot, and is made an instance of in no time."""
    path = tmp_path / "small"
    path.write_bytes(b"\0" * MIB + b"data" * (MIB // 4) + b"\0" * MIB)
    return world.images.add(path, "raw")


def cached_name(image_id):
    return hashlib.sha1(image_id.encode(), usedforsecurity=False).hexdigest()


def backing(path):
    done = run("qemu-img", "info", "-U", "--output=json", "-f", "qcow2", path)
    found = json.loads(done.stdout)
    return found["virtual-size"], found["backing-filename"], found["backing-filename-format"]


def test_what_it_is_made_of(world, small):
    made = world.spawn(small, root_gb=1, vcpus=2, memory_mb=64)
    base = world.instances / "_base" / cached_name(small)
    assert backing(made.disk) == (1 << 30, str(base), "raw")
    assert made.disk.stat().st_mode & 0o777 == 0o640
    assert base.read_bytes() == (world.images.directory / small).read_bytes()
    found = world.driver.describe_domain(made.instance.name)
    assert (found.uuid, found.state) == (made.instance.uuid, power_state.RUNNING)
    assert (found.vcpus, found.memory_mb, found.root_gb) == (2, 64, 1)
    assert (found.display_name, found.flavor_name) == ("a <server> & more", "m1.lab")
    assert (found.project_id, found.project_name) == ("project-1", "demo")
    assert (found.user_id, found.user_name, found.image_ref) == ("user-1", "Demo", small)
    assert found.image_properties["hw_qemu_guest_agent"] == "yes"
    (disk,) = found.disks
    assert (disk.device_name, disk.bus, disk.format) == ("vda", "virtio", "qcow2")
    assert disk.source == str(made.disk)


def test_without_a_size_of_its_own_the_disk_is_as_large_as_the_image(world, small):
    assert backing(world.spawn(small, root_gb=0).disk)[0] == 3 * MIB


def test_an_image_is_downloaded_once(world, small):
    threads, failures = [], []

    def spawn():
        try:
            world.spawn(small)
        except Exception as exc:
            failures.append(exc)

    for _ in range(3):
        threads.append(threading.Thread(target=spawn))
        threads[-1].start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    assert failures == []
    assert world.images.downloads == [small]
    assert len(world.cached()) == 1
    assert len(world.driver.list_domains()) == 3


def test_an_instance_of_a_snapshot_of_an_instance(world, tmp_path):
    image = tmp_path / "guest.qcow2"
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", guest_disk().path, image)
    first = world.spawn(world.images.add(image, "qcow2"))
    assert first.wait_ready() == 1
    first.run("echo kept > /data/note; sync")
    world.driver.pause(first.instance)
    snapshot = str(uuid.uuid4())
    states = snapshot_parts.States()
    report = world.driver.snapshot(world.context, first.instance, snapshot, states)
    taken = world.images.directory / snapshot
    assert report.image_format == "qcow2"
    assert disk_image.info(taken, "qcow2").get("backing-filename") is None
    assert disk_image.differences(taken, "qcow2", first.disk, "qcow2", shared=True) == ""
    world.driver.destroy(first.instance)

    second = world.spawn(snapshot)
    base = world.instances / "_base" / cached_name(snapshot)
    assert base.read_bytes() == taken.read_bytes()
    assert second.wait_ready() == 2
    assert second.run("cat /data/note") == "kept"


# -- failures ----------------------------------------------------------------------------------


def test_it_can_be_stopped_at_every_step(world, small):
    for stop_at in itertools.count(1):
        calls = itertools.count(1)

        def check(calls=calls, stop_at=stop_at):
            if next(calls) == stop_at:
                raise parts.Stopped

        # Each time it is to be downloaded.
        for path in (world.instances / "_base").glob("*"):
            path.unlink()
        try:
            made = world.spawn(small, check=check)
        except parts.Stopped:
            assert world.driver.list_domains() == []
            continue
        break
    # Five steps, three pieces of the image, and the end.
    assert stop_at == 5 + 3 + 1 + 1
    assert made.state() == power_state.RUNNING


def test_image_service_that_fails_midway(world, small):
    pieces = itertools.count(1)

    def on_piece():
        if next(pieces) == 2:
            raise exception.ImageServiceUnavailable(endpoint="http://glance", reason="gone")

    world.images.on_piece = on_piece
    with pytest.raises(exception.SpawnFailed, match="gone") as caught:
        world.spawn(small)
    assert isinstance(caught.value.__cause__, exception.ImageServiceUnavailable)
    assert "http" not in caught.value.for_user()
    assert world.cached() == []
    world.images.on_piece = parts.nothing
    world.spawn(small)


def test_tool_that_fails(world, small):
    world.driver._tool = QemuImg(world.conf, "false")
    with pytest.raises(exception.SpawnFailed) as caught:
        world.spawn(small)
    assert isinstance(caught.value.__cause__, exception.QemuImgFailed)
    assert caught.value.phase == "make the disk"


def test_domain_that_libvirt_refuses(world, small):
    instance = snapshot_parts.Instance(str(uuid.uuid4()), "no/name")
    with pytest.raises(exception.SpawnFailed) as caught:
        world.spawn(small, instance)
    assert isinstance(caught.value.__cause__, exception.LibvirtOperationFailed)
    assert caught.value.phase == "define the domain"


def test_guest_that_does_not_start(world, small):
    with pytest.raises(exception.SpawnFailed) as caught:
        world.spawn(small, network="no-such-network")
    assert isinstance(caught.value.__cause__, exception.LibvirtOperationFailed)
    assert caught.value.phase == "start the guest"


def test_user_network(world, small):
    made = world.spawn(small, network="user")
    assert "<interface type='user'>" in made.domain().XMLDesc(0)


@pytest.mark.parametrize(
    "properties",
    [
        {"hw_disk_bus": "scsi"},
        {"hw_disk_bus": "sata"},
        {"hw_disk_bus": "ide", "hw_vif_model": "e1000"},
        {"hw_machine_type": "q35", "hw_vif_model": "rtl8139"},
        {"hw_qemu_guest_agent": "no", "os_type": "windows"},
    ],
)
def test_properties_of_the_image(world, tmp_path, properties):
    (tmp_path / "blank").write_bytes(bytes(MIB))
    image = world.images.add(tmp_path / "blank", "raw", **properties)
    made = world.spawn(image, network="user", memory_mb=64)
    assert made.state() == power_state.RUNNING
    (disk,) = world.driver.describe_domain(made.instance.name).disks
    assert disk.bus == properties.get("hw_disk_bus", "virtio")


@pytest.mark.parametrize("network", ["none", "user", "default"])
@pytest.mark.parametrize(
    ("bus", "firmware"),
    [*((bus, "bios") for bus in domain_builder.DISK_BUSES), ("virtio", "uefi"), ("sata", "uefi")],
)
def test_schema_of_libvirt(libvirt_lab, network, bus, firmware):
    """Also of what needs more to start than this host may have."""
    spec = domain_builder.DomainSpec(
        uuid=str(uuid.uuid4()),
        name="schema",
        virt_type="qemu",
        architecture="x86_64",
        cpu_mode="maximum",
        vcpus=2,
        memory_mb=64,
        disk="/nowhere/disk",
        cache="none",
        console_log="/nowhere/console.log",
        network=network,
        image_properties={
            "hw_disk_bus": bus, "hw_firmware_type": firmware, "hw_qemu_guest_agent": "yes",
        },
        nova=nova_metadata.NovaMetadata(display_name="schema", image_ref="image"),
    )  # fmt: skip
    libvirt_lab.connect().defineXMLFlags(
        domain_builder.build(spec), libvirt.VIR_DOMAIN_DEFINE_VALIDATE
    )


def test_somebody_elses_domain_of_the_same_name_survives(libvirt_lab, world, small):
    other = libvirt_lab.define_guest("instance-00000001", libvirt_lab.make_disk("qcow2"))
    instance = snapshot_parts.Instance(str(uuid.uuid4()), other.name)
    with pytest.raises(exception.SpawnFailed, match="not made for this request") as caught:
        world.driver.spawn(world.context, instance, world.request(small), parts.nothing)
    assert isinstance(caught.value.__cause__, exception.DomainExists)
    assert other.state()["state"] == "shut off"
    # Nor is it taken for the instance.
    with pytest.raises(exception.DomainNotFound, match=other.name):
        world.driver.get_info(instance)
    assert not (world.instances / instance.uuid).exists()
    world.driver.destroy(instance)
    assert libvirt_lab.step("names") == [other.name]


def test_second_request_for_one_instance_leaves_it_alone(world, small):
    made = world.spawn(small)
    with pytest.raises(exception.SpawnFailed, match="not made for this request"):
        world.driver.spawn(world.context, made.instance, world.request(small), parts.nothing)
    assert made.state() == power_state.RUNNING
    assert made.disk.exists()


def test_no_room_for_the_image(world, small):
    world.conf.set_override("reserved_host_disk_mb", 1 << 30)
    with pytest.raises(exception.SpawnFailed, match="MiB are needed") as caught:
        world.spawn(small)
    assert isinstance(caught.value.__cause__, exception.HostDiskFull)
    assert world.images.downloads == []


def test_hostile_image_gets_nowhere(world, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret" * MIB)
    hostile = tmp_path / "hostile"
    subprocess.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, hostile],
        check=True,
    )
    with pytest.raises(exception.ImageUnacceptable, match="backing file"):
        world.spawn(world.images.add(hostile, "qcow2"))
    assert world.cached() == []


def test_flavor_too_small(world, tmp_path):
    image = tmp_path / "large"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", image, "2G"], check=True)
    image_id = world.images.add(image, "qcow2")
    with pytest.raises(exception.ImageUnacceptable, match="1 GiB"):
        world.spawn(image_id, root_gb=1)
    # It is in the cache all the same, and looked at again.
    assert len(world.cached()) == 1
    with pytest.raises(exception.ImageUnacceptable, match="1 GiB"):
        world.spawn(image_id, root_gb=1)
    assert backing(world.spawn(image_id, root_gb=2).disk)[0] == 2 << 30
    assert world.images.downloads == [image_id]
