# SPDX-License-Identifier: Apache-2.0
"""Where the image service keeps its images, by what there is to see of that."""

import dataclasses

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import domain_disks, rbd
from nova_snap.virt.libvirt.snapshot import direct_target

FSID = "11111111-2222-3333-4444-555555555555"
OTHER = "99999999-2222-3333-4444-555555555555"
SOURCE = domain_disks.NetworkSource("rbd", "vms/disk", config_file="/etc/ceph/ceph.conf")
DISK = domain_disks.Disk("vda", "virtio", "disk", "network", None, "raw", network=SOURCE)
LUKS = domain_disks.Encryption("luks")
BASE = "base-id"


def location(fsid=FSID, pool="images"):
    return f"rbd://{fsid}/{pool}/{BASE}/snap"


@pytest.fixture
def cluster(monkeypatch):
    """Ceph, as far as it is asked. Set ``parent`` for what the disk is a clone of."""

    class Cluster:
        parent = None
        error = None

        def __init__(self, _conf, access):
            self.access = access

        def fsid(self):
            if Cluster.error is not None:
                raise Cluster.error
            return FSID

        def info(self, image):
            assert image == rbd.Image("vms", "disk")
            return rbd.ImageInfo(2**30, Cluster.parent)

    monkeypatch.setattr(rbd, "Cluster", Cluster)
    return Cluster


def find(conf, disk=DISK, image_format="raw", **base):
    return direct_target.find(conf, disk, "image-id", image_format, {"id": BASE, **base})


def test_pool_of_the_image_that_the_disk_is_a_clone_of(conf, cluster):
    cluster.parent = rbd.Image("glance", BASE)
    found = find(conf)
    assert found.clone == rbd.Image("glance", "image-id")
    assert found.snapshot == "nova_snap-image-id"
    assert found.url == f"rbd://{FSID}/glance/image-id/snap"
    assert found.size == 2**30


@pytest.mark.parametrize(
    "base",
    [
        {"direct_url": location()},
        {"locations": [{"url": location()}]},
        {"locations": [{"url": "file:///x"}, {"url": location(OTHER)}, {"url": location()}]},
    ],
)
def test_pool_by_the_location_of_the_base_image(conf, cluster, base):
    cluster.parent = rbd.Image("volumes", "volume-x")
    assert find(conf, **base).pool == "images"


def test_pool_by_the_option(conf, cluster):
    conf.set_override("snapshot_direct_pool", "own pool", "libvirt")
    assert find(conf).url == f"rbd://{FSID}/own%20pool/image-id/snap"


@pytest.mark.parametrize(
    ("base", "reason"),
    [
        ({}, "nothing tells the image service's pool"),
        ({"direct_url": "rbd://only-an-image"}, "nothing tells"),
        ({"direct_url": "file:///var/lib/glance/x"}, "nothing tells"),
        ({"direct_url": location(OTHER)}, f"is in another cluster \\({OTHER}\\)"),
    ],
)
def test_pool_that_is_not_known(conf, cluster, base, reason):
    with pytest.raises(exception.DirectUnavailable, match=reason):
        find(conf, **base)


@pytest.mark.parametrize(
    ("disk", "image_format", "reason"),
    [
        (dataclasses.replace(DISK, network=None, path="/x"), "raw", "not in Ceph RBD"),
        (dataclasses.replace(DISK, format="qcow2"), "raw", "of format qcow2"),
        (dataclasses.replace(DISK, encryption=LUKS), "raw", "encrypted"),
        (DISK, "qcow2", "the image is to be qcow2"),
        (
            dataclasses.replace(DISK, network=dataclasses.replace(SOURCE, snapshot="s")),
            "raw",
            "the snapshot s of an image",
        ),
    ],
)
def test_disk_that_it_is_not_for(conf, cluster, disk, image_format, reason):
    cluster.parent = rbd.Image("images", BASE)
    with pytest.raises(exception.DirectUnavailable, match=reason):
        find(conf, disk, image_format)


def test_cluster_that_does_not_answer(conf, cluster):
    cluster.error = exception.CephFailed(command="ceph fsid", exit_code=110, reason="timed out")
    with pytest.raises(exception.DirectUnavailable, match="timed out"):
        find(conf)
