# SPDX-License-Identifier: Apache-2.0
"""Guests whose disk is a qcow2 file that is encrypted with LUKS."""

import json
import logging
import uuid
from pathlib import Path

import pytest

from nova_snap import exception
from tests.fixtures import disk_image, disks, libvirt_secrets
from tests.fixtures.commands import make_luks, run
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts

PASSPHRASE = "correct horse, battery staple"


class Host(parts.LabHost):
    """Whose calls may use secrets, in whichever thread."""

    def _translated(self, *arguments):
        libvirt_secrets.assume_identity(self._lab)
        return super()._translated(*arguments)


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def secret(lab):
    return libvirt_secrets.define(lab, PASSPHRASE.encode())


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """The passphrase for the tests' own eyes."""
    path = tmp_path_factory.mktemp("key") / "key"
    path.write_text(PASSPHRASE)
    return ["--object", f"secret,id=key,file={path}"]


@pytest.fixture(scope="module")
def guest(lab, secret, key):
    plain = lab.make_disk("raw", "luks")
    path = plain.path.with_name("encrypted")
    options = "encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10"
    make_luks(
        "qemu-img", "convert", *key, "-f", "raw", "-O", "qcow2", "-o", options, plain.path, path
    )  # fmt: skip
    plain.path.unlink()
    disk = disks.Disk(path, "qcow2", "qcow2", lab.guest_disk())
    libvirt_secrets.assume_identity(lab)
    made = lab.define_guest("luks", disk, secret=secret.UUIDString())
    yield made
    made.remove()


@pytest.fixture
def world(lab, tmp_path):
    with stream_parts.open_world(lab, tmp_path, Host) as made:
        made.set(snapshot_encrypted_disks="decrypt")
        yield made


def paused(guest):
    if guest.state()["state"] == "shut off":
        guest.start(paused=True)


def shut_off(guest):
    guest.destroy()


def decrypted(guest, key, directory):
    """What the guest sees, as a raw file; it must be paused or shut off."""
    target = directory / "decrypted"
    disk = f"driver=qcow2,encrypt.key-secret=key,file.filename={guest.disk.path}"
    run("qemu-img", "convert", "-U", *key, "--image-opts", disk, "-O", "raw", target)
    return target


@pytest.mark.parametrize("bring", [paused, shut_off])
def test_refused_unless_it_is_allowed(guest, world, bring):
    bring(guest)
    world.set(snapshot_encrypted_disks=None)
    failure = world.fails(guest)
    assert isinstance(failure.__cause__, exception.SnapshotMethodUnavailable)
    assert "the disk is encrypted, and its image would not be" in failure.reason
    assert list(world.images.directory.iterdir()) == []


@pytest.mark.parametrize(
    ("bring", "configured", "method", "image_format"),
    [
        (paused, {}, "stream", "qcow2"),
        (paused, {"snapshot_method": "mirror"}, "managed_save", "qcow2"),
        (shut_off, {"snapshot_compression": "zstd"}, "offline", "qcow2"),
        (shut_off, {"snapshot_image_format": "raw"}, "offline", "raw"),
        (shut_off, {"snapshot_image_format": "vmdk"}, "offline", "vmdk"),
    ],
)
def test_content(guest, world, key, tmp_path, caplog, bring, configured, method, image_format):
    caplog.set_level(logging.DEBUG)
    bring(guest)
    world.set(**configured)
    seen = []
    world.images.on_update = lambda: seen.append(wherever_it_may_be_seen(world))
    taken = world.snapshot(guest)
    assert (taken.report.method, taken.format) == (method, image_format)
    plain = decrypted(guest, key, tmp_path)
    assert disk_image.differences(taken.path, image_format, plain, "raw") == ""
    if image_format == "qcow2":
        assert "encrypted" not in disk_image.info(taken.path, "qcow2")
    assert PASSPHRASE not in caplog.text + seen[0]


def wherever_it_may_be_seen(world):
    """The command lines of the host, and the small files of snapshots."""
    found = []
    for path in (*Path("/proc").glob("[0-9]*/cmdline"), *world.snapshots.glob("*/*")):
        try:
            if path.is_file() and path.stat().st_size < 1 << 20:
                found.append(path.read_bytes().decode(errors="replace"))
        except OSError:
            continue
    return "".join(found)


def test_what_a_guest_overwrites_is_encrypted_too(guest, world):
    shut_off(guest)
    guest.start()
    guest.wait_ready()
    guest.start_writer()
    seen = {}

    def overwritten():
        (scratch,) = world.snapshots.glob("*/scratch-vda")
        before = scratch.stat().st_blocks
        stream_parts.wait_counter(guest, guest.counter() + 10)
        seen["grown"] = scratch.stat().st_blocks - before
        output = run("qemu-img", "info", "-U", "--output=json", "-f", "qcow2", scratch).stdout
        seen.update(json.loads(output))

    world.images.on_update = overwritten
    taken = world.snapshot(guest)
    assert seen["encrypted"]
    assert seen["grown"] > 0
    stream_parts.assert_instant(taken)
    stream_parts.assert_at_work(guest)


def test_secret_that_is_wrong(guest, world, secret):
    shut_off(guest)
    secret.setValue(b"another")
    try:
        failure = world.fails(guest)
    finally:
        secret.setValue(PASSPHRASE.encode())
    assert isinstance(failure.__cause__, exception.QemuNbdFailed)
    assert "Invalid password" in failure.reason


def test_secret_that_is_not_there(lab, guest, world):
    name = str(uuid.uuid4())
    lost = lab.define_guest("lost", guest.disk, secret=name)
    try:
        failure = world.fails(lost)
    finally:
        lost.remove()
    assert isinstance(failure.__cause__, exception.SecretUnavailable)
    assert f"secret {name} is not known" in failure.reason
