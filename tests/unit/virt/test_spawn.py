# SPDX-License-Identifier: Apache-2.0
"""What is decided before an instance is made."""

import logging

import pytest

from nova_snap import exception
from nova_snap.virt import driver
from nova_snap.virt.libvirt import lifecycle, spawn
from nova_snap.virt.libvirt.driver import LibvirtDriver
from nova_snap.virt.libvirt.host import Host
from tests.fixtures import logs
from tests.functional.snapshot_parts import Instance

INSTANCE = Instance("3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11", "instance-00000001")
RECORD = {
    "id": "image",
    "name": "image",
    "status": "active",
    "disk_format": "raw",
    "container_format": "bare",
    "size": 1,
}


def test_properties_of_an_image():
    record = {
        **RECORD,
        "hw_qemu_guest_agent": "yes",
        "os_type": "linux",
        "os_require_quiesce": "no",
        "architecture": "x86_64",
        "os_hash_algo": "sha512",
        "os_hash_value": "00",
        "os_hidden": False,
        "owner_specified.openstack.md5": "x",
        "hw_numa_nodes": None,
    }
    assert spawn.image_properties(record) == {
        "hw_qemu_guest_agent": "yes",
        "os_type": "linux",
        "os_require_quiesce": "no",
        "architecture": "x86_64",
    }


class NoImages:
    """An image service that can do nothing."""


@pytest.fixture
def made(conf, tmp_path):
    conf.set_override("connection_uri", "test:///default", "libvirt")
    conf.set_override("instances_path", str(tmp_path / "instances"))
    made = LibvirtDriver(conf, NoImages(), Host(conf))
    yield made
    made.close()


def request(**changes):
    return driver.SpawnRequest("image", {**RECORD, **changes}, 1, 64, 1, "none", "x", "tiny")


def test_containers_are_not_made(conf, context, made, tmp_path):
    conf.set_override("virt_type", "lxc", "libvirt")
    with pytest.raises(exception.SpawnFailed, match="virt_type is lxc") as caught:
        made.spawn(context, INSTANCE, request(), lambda: None)
    assert isinstance(caught.value.__cause__, exception.HypervisorUnsupported)
    assert not (tmp_path / "instances").exists()


@pytest.mark.parametrize(
    "changes", [{"disk_format": "iso"}, {"hw_tpm_version": "2.0"}, {"status": "deleted"}]
)
def test_nothing_is_downloaded_that_cannot_be_used(context, made, tmp_path, changes):
    with pytest.raises(exception.ImageUnacceptable):
        made.spawn(context, INSTANCE, request(**changes), lambda: None)
    assert not (tmp_path / "instances").exists()


def test_an_unforeseen_error_tells_a_user_nothing(context, made):
    with pytest.raises(exception.SpawnFailed) as caught:
        made.spawn(context, INSTANCE, request(), lambda: None)
    assert isinstance(caught.value.__cause__, AttributeError)
    assert "NoImages" in str(caught.value)
    assert "NoImages" not in caught.value.for_user()
    assert "the log of the compute host" in caught.value.for_user()


def test_host_without_kvm_is_warned_about(conf, made, monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(lifecycle, "KVM_DEVICE", str(tmp_path / "kvm"))
    with caplog.at_level(logging.WARNING):
        lifecycle.LibvirtLifecycle.init_host(made)
        assert "set it to qemu" in caplog.text
    caplog.clear()
    conf.set_override("virt_type", "qemu", "libvirt")
    lifecycle.LibvirtLifecycle.init_host(made)
    assert logs.ours(caplog) == []
