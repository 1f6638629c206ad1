# SPDX-License-Identifier: Apache-2.0
"""Containers of a real libvirt: their disk is read while nobody can write to it, or not at all."""

import dataclasses
import os
import subprocess

import pytest
from oslo_config import cfg

from nova_snap import conf as nova_conf
from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.context import RequestContext
from nova_snap.virt.libvirt.driver import LibvirtDriver
from tests.fixtures.libvirt_lxc import LxcLab
from tests.functional import snapshot_parts as parts
from tests.functional.lifecycle_parts import until

WRITES = "while :; do echo x >> /data/file; /bin/busybox sleep 1; done"


@pytest.fixture(scope="module")
def lab():
    with LxcLab() as made:
        yield made


@dataclasses.dataclass
class World:
    """A driver for the lab's containers, with its image service."""

    driver: LibvirtDriver
    images: parts.FileImages
    snapshots: str

    def snapshot(self, domain):
        """:returns: the report, and the image's bytes."""
        instance = parts.Instance(domain.UUIDString(), domain.name())
        context = RequestContext(overwrite=False)
        xml, active = domain.XMLDesc(), domain.isActive()
        try:
            report = self.driver.snapshot(context, instance, "image", parts.States())
        finally:
            assert (domain.XMLDesc(), domain.isActive()) == (xml, active)
            assert os.listdir(self.snapshots) == []
        return report, (self.images.directory / "image").read_bytes()


@pytest.fixture
def world(lab, tmp_path):
    conf = cfg.ConfigOpts()
    nova_conf.register_opts(conf)
    conf([], project="nova_snap", default_config_files=[])
    sockets = lab.directory / "s"
    sockets.mkdir(exist_ok=True)
    for name, value in {
        "connection_uri": lab.uri,
        "virt_type": "lxc",
        "snapshots_directory": str(tmp_path / "snapshots"),
        "snapshot_socket_directory": str(sockets),
        "snapshot_compression": "none",
    }.items():
        conf.set_override(name, value, "libvirt")
    (tmp_path / "snapshots").mkdir()
    images = parts.FileImages(tmp_path / "images")
    driver = LibvirtDriver(conf, images)
    driver.init_host()
    yield World(driver, images, str(tmp_path / "snapshots"))
    driver.close()


@pytest.fixture
def start(request, lab):
    """Defines a container with an image of its own, and starts it."""
    made = []

    def define(name, **options):
        image = lab.make_image(name)
        domain = lab.define(name, image, **options)
        made.append(domain)
        domain.create()
        return domain, image

    yield define
    for domain in made:
        if domain.isActive():
            domain.destroy()
        domain.undefine()


def assert_whole(image, content):
    """The image is the disk's bytes, and a file system without a fault."""
    assert content == image.read_bytes()
    subprocess.run(["e2fsck", "-fn", image], check=True, capture_output=True)


def test_read_only_container(world, start):
    domain, image = start("ro", read_only=True)
    report, content = world.snapshot(domain)
    assert report.method == "offline"
    assert "mounted read-only" in report.reason
    assert domain.isActive()
    assert_whole(image, content)


def test_container_that_may_write(world, start):
    """Refused before anything is done; as soon as it is stopped, it can be taken."""
    domain, image = start("rw", command=WRITES)
    with pytest.raises(exception.SnapshotFailed, match="may be written to; stop the container"):
        world.snapshot(domain)
    assert domain.isActive()
    domain.destroy()
    until(lambda: str(image) not in subprocess.check_output(["losetup", "-a"], text=True))
    report, content = world.snapshot(domain)
    assert (report.method, domain.isActive()) == ("offline", 0)
    assert_whole(image, content)


def test_container_that_makes_its_root_writable(world, start):
    """What the XML says does not count: root in a container may mount it anew."""
    domain, _image = start(
        "sly", read_only=True, command=f"/bin/busybox mount -o remount,rw /; {WRITES}"
    )

    def is_refused() -> bool:
        try:
            world.snapshot(domain)
        except exception.SnapshotFailed as error:
            return "may be written to" in error.reason
        # It has not got that far yet.
        return False

    until(is_refused)


def test_container_that_writes_while_it_is_read(world, lab):
    """Nobody gets the end of the image."""
    image = lab.make_image("late")
    domain = lab.define("late", image)
    world.images.on_update = domain.create
    try:
        with pytest.raises(exception.SnapshotFailed, match="written to"):
            world.driver.snapshot(
                RequestContext(overwrite=False),
                parts.Instance(domain.UUIDString(), domain.name()),
                "image",
                parts.States(),
            )
    finally:
        domain.destroy()
        domain.undefine()
    assert (world.images.directory / "image").stat().st_size < image.stat().st_size


def test_life_of_a_container(world, lab):
    """It is adopted, switched and deleted like any other guest."""
    domain = lab.define("life", lab.make_image("life"))
    instance = parts.Instance(domain.UUIDString(), domain.name())
    world.driver.power_on(instance)
    assert domain.isActive()
    described = world.driver.describe_domain("life")
    assert (described.state, described.has_managed_save) == (power_state.RUNNING, False)
    assert [disk.device_name for disk in described.disks] == ["rootfs"]
    world.driver.power_off(instance, timeout=0)
    assert not domain.isActive()
    world.driver.destroy(instance)
    assert "life" not in [each.name() for each in lab.connection.listAllDomains()]
