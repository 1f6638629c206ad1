# SPDX-License-Identifier: Apache-2.0
"""The adapter to Ceph's commands, against commands that do what a test says."""

import json
import os
import threading
import time

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import chain, domain_disks, rbd

IMAGE = rbd.Image("vms", "disk")
SOURCE = domain_disks.NetworkSource(
    protocol="rbd",
    name="vms/disk",
    hosts=(("mon-1", "3300"), ("fd00::1", "6789"), ("mon-3", None)),
    user="xml-user",
    config_file="/xml/ceph.conf",
)


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Say what both commands do; what they were called with is in ``arguments``."""

    def make(shell):
        for program in ("rbd", "ceph"):
            script = tmp_path / program
            script.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {tmp_path}/arguments\n{shell}\n')
            script.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    make.arguments = lambda: (tmp_path / "arguments").read_text().splitlines()
    return make


@pytest.fixture
def cluster(conf):
    conf.set_override("operation_timeout", 1, "libvirt")
    return rbd.Cluster(conf, rbd.Access(conf_file="/c.conf", user="nova"))


@pytest.mark.parametrize(
    ("options", "source", "access"),
    [
        ({}, SOURCE, rbd.Access("/xml/ceph.conf", "xml-user", "")),
        (
            {"rbd_user": "nova", "images_rbd_ceph_conf": "/own.conf"},
            SOURCE,
            rbd.Access("/own.conf", "nova", ""),
        ),
        (
            {},
            domain_disks.NetworkSource("rbd", "vms/disk", SOURCE.hosts),
            rbd.Access("", "", "mon-1:3300,[fd00::1]:6789,mon-3"),
        ),
        ({}, domain_disks.NetworkSource("rbd", "vms/disk"), rbd.Access()),
    ],
    ids=["of-the-domain", "configured", "monitors-only", "nothing"],
)
def test_access(conf, options, source, access):
    for name, value in options.items():
        conf.set_override(name, value, "libvirt")
    assert rbd.Access.of(conf, source) == access


@pytest.mark.parametrize(
    "path",
    ["ceph.conf", "../ceph.conf", "", "/", "/a.conf,b.conf", "/a b", "/$pid", "/a\n", "--id=admin"],
)
def test_configuration_of_the_domain_is_one_absolute_path(conf, path):
    """Where the service works is not where it lies, and it is obeyed."""
    source = domain_disks.NetworkSource("rbd", "vms/disk", config_file=path)
    with pytest.raises(exception.UnsafeDisk, match="is not one absolute path"):
        rbd.Access.of(conf, source)
    disk = domain_disks.Disk("vda", "virtio", "disk", "network", None, "raw", network=source)
    with pytest.raises(exception.UnsafeDisk, match="is not one absolute path"):
        chain.read(disk)


@pytest.mark.parametrize(
    ("spec", "image"),
    [
        ("vms/disk", rbd.Image("vms", "disk")),
        ("vms/space/disk", rbd.Image("vms", "disk", "space")),
    ],
)
def test_image_names(spec, image):
    assert rbd.Image.parse(spec) == image
    assert str(image) == spec


def test_names_are_options(cluster, command):
    """None of them can be taken for an option of its own, or for a snapshot."""
    command("exit 0")
    cluster.clone(rbd.Image("vms", "-x@y", "n"), "s", rbd.Image("images", "--all"))
    assert command.arguments() == [
        "--conf=/c.conf", "--id=nova", "--client-mount-timeout=5", "clone", "--pool=vms",
        "--namespace=n", "--image=-x@y", "--snap=s", "--dest-pool=images", "--dest=--all",
    ]  # fmt: skip


def test_answers(cluster, command):
    parent = {"pool": "images", "pool_namespace": "", "image": "base", "snapshot": "snap"}
    command(f"echo '{json.dumps({'size': 5, 'parent': parent})}'")
    assert cluster.info(IMAGE) == rbd.ImageInfo(5, rbd.Image("images", "base"))
    command("""echo '{"size": 5}'""")
    assert cluster.info(IMAGE).parent is None
    command("echo 'not JSON'")
    with pytest.raises(exception.CephFailed, match="unusable answer"):
        cluster.fsid()


def test_error(cluster, command):
    """What the command says itself counts; what libraries say beside it, where it is silent."""
    command("echo '2026 7f09 -1 librbd: noise' >&2; echo 'rbd: no such thing' >&2; exit 2")
    with pytest.raises(exception.CephFailed) as caught:
        cluster.remove(IMAGE)
    assert (caught.value.exit_code, caught.value.reason) == (2, "rbd: no such thing")
    assert "nova" not in caught.value.for_user()
    command("echo '2026 7f09 -1 librbd: noise' >&2; exit 5")
    with pytest.raises(exception.CephFailed, match="librbd: noise"):
        cluster.remove(IMAGE)


@pytest.mark.parametrize("stubborn", ["", "trap '' TERM;"])
def test_command_that_does_not_end(cluster, command, stubborn):
    command(f"{stubborn} while :; do sleep 0.1; done")
    began = time.monotonic()
    with pytest.raises(exception.CephFailed, match="not done within 1 s") as caught:
        cluster.protect(IMAGE, "s")
    assert caught.value.exit_code is None
    assert time.monotonic() - began < 10


def test_cancelled(cluster, command, tmp_path):
    """It ends when it is told to, and its process is known as long as it runs."""
    command("echo hello >&2; exec sleep 60")
    noted = []

    def stop_soon(stop):
        threading.Timer(0.3, stop).start()

    with pytest.raises(exception.CephFailed) as caught:
        cluster.flatten(IMAGE, 60, stop_soon, str(tmp_path / "log"), noted.append)
    assert caught.value.exit_code == -15
    assert caught.value.reason == "hello"
    assert noted[0] > 0
    assert noted[1:] == [0]


def test_command_that_is_not_there(cluster, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(exception.CephFailed, match="cannot be run"):
        cluster.fsid()


def test_task_that_has_ended(cluster, command):
    command("echo 'Error ENOENT: no such task' >&2; exit 2")
    assert cluster.task("x") is None
    cluster.cancel_task("x")


@pytest.mark.parametrize(
    "answer",
    [
        "[]",
        "{}",
        "7",
        '"x"',
        "null",
        '{"fsid"',
        '[{"pool": 1}]',
        '{"size": 1e999}',
        "[" * 5000,
        f'{{"size": {1 << 63}}}',
    ],
    ids=["list", "object", "number", "text", "null", "cut", "other", "infinite", "deep", "large"],
)
def test_an_answer_of_another_shape(cluster, monkeypatch, answer):
    monkeypatch.setattr(cluster, "_run", lambda *_arguments: answer)
    for ask in (cluster.fsid, lambda: cluster.info(IMAGE), lambda: cluster.add_flatten_task(IMAGE)):
        with pytest.raises(exception.CephFailed, match="unusable answer"):
            ask()
