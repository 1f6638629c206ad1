# SPDX-License-Identifier: Apache-2.0
"""The real qemu-img, told everything, and stopped when it takes too long."""

import dataclasses
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import chain, domain_xml, imagebackend, secrets
from nova_snap.virt.libvirt.domain_disks import Encryption, NetworkSource, SecretReference
from nova_snap.virt.libvirt.qemu_img import OUTPUT_FORMATS, QemuImg

MIB = 1 << 20
ODD_NAMES = ["with space", "a,b=c", "colon:name", "json:{}", "quote\"'", "äöü", "%41", "-f"]


@pytest.fixture
def tool(conf):
    return QemuImg(conf)


def write(path: Path, image_format: str, *commands: str) -> None:
    arguments = [part for command in commands for part in ("-c", command)]
    driver = f"driver={image_format},file.driver=file,file.filename={str(path).replace(',', ',,')}"
    subprocess.run(
        ["qemu-io", "--image-opts", *arguments, driver], check=True, stdout=subprocess.DEVNULL
    )


def content(path: Path, image_format: str) -> bytes:
    """What a guest would see, unpacked by hand."""
    target = path.with_name("content")
    source = f"driver={image_format},file.driver=file,file.filename={path}".replace(",,", ",")
    subprocess.run(
        ["qemu-img", "convert", "--image-opts", "-O", "raw", source, str(target)], check=True
    )
    data = target.read_bytes()
    target.unlink()
    return data


def script(path: Path, text: str) -> str:
    path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.mark.parametrize("out_format", OUTPUT_FORMATS)
def test_flat_image_of_a_chain(tool, tmp_path, out_format):
    """A base, two overlays that hide parts of it, and zeroes over data."""
    base, middle, top = tmp_path / "base", tmp_path / "middle", tmp_path / "top"
    tool.create_raw(str(base), 2 * MIB)
    write(base, "raw", "write -P 1 0 1M")
    tool.create_overlay(str(middle), chain.read_file(str(base), "raw"), 2 * MIB)
    write(middle, "qcow2", "write -P 2 256k 256k")
    tool.create_overlay(str(top), chain.read_file(str(middle), "qcow2"), 2 * MIB)
    write(top, "qcow2", "write -z 0 64k", "write -P 3 1M 64k")
    target = tmp_path / "image"
    tool.convert(chain.read_file(str(top), "qcow2"), str(target), out_format)
    expected = bytearray(2 * MIB)
    expected[: 1 * MIB] = b"\1" * MIB
    expected[MIB // 4 : MIB // 2] = b"\2" * (MIB // 4)
    expected[: 64 * 1024] = bytes(64 * 1024)
    expected[MIB : MIB + 64 * 1024] = b"\3" * (64 * 1024)
    assert content(target, out_format) == bytes(expected)
    if out_format == "qcow2":
        assert [layer.format for layer in chain.read_file(str(target), "qcow2")] == ["qcow2"]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_odd_names(tool, tmp_path, name):
    base, disk, target = (tmp_path / f"{name}{suffix}" for suffix in (" base", "", " image"))
    tool.create_raw(str(base), MIB)
    write(base, "raw", "write -P 7 0 64k")
    tool.create_overlay(str(disk), chain.read_file(str(base), "raw"), MIB)
    tool.convert(chain.read_file(str(disk), "qcow2"), str(target), "raw")
    assert target.read_bytes() == base.read_bytes()


def test_raw_disk_that_pretends_to_be_qcow2(tool, tmp_path):
    """A guest writes a header into its raw disk that names a file of the host."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"top secret".ljust(65536))
    disk, target = tmp_path / "disk", tmp_path / "image"
    tool.create_overlay(str(disk), chain.read_file(str(secret), "raw"), 65536)
    tool.convert(chain.read_file(str(disk), "raw"), str(target), "raw")
    # QEMU sees whole sectors.
    assert target.read_bytes().rstrip(b"\0") == disk.read_bytes().rstrip(b"\0")
    assert b"top secret" not in target.read_bytes()


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
@pytest.mark.parametrize("there", [True, False])
def test_nobody_else_may_read_the_target(tool, tmp_path, umask, there):
    """It is this process's own again, whoever wrote it."""
    disk, target = tmp_path / "disk", tmp_path / "image"
    tool.create_raw(str(disk), MIB)
    if there:
        target.touch(0o600)
    before = os.umask(umask)
    try:
        tool.convert(chain.read_file(str(disk), "raw"), str(target), "qcow2")
    finally:
        os.umask(before)
    status = target.stat()
    assert status.st_mode & 0o777 == 0o600
    assert (status.st_uid, status.st_gid) == (os.geteuid(), os.getegid())


def test_compressed_qcow2_is_smaller(tool, tmp_path):
    disk = tmp_path / "disk"
    tool.create_raw(str(disk), MIB)
    write(disk, "raw", "write -P 9 0 1M")
    source = chain.read_file(str(disk), "raw")
    for compress in (False, True):
        tool.convert(source, str(tmp_path / str(compress)), "qcow2", compress)
    assert (tmp_path / "True").stat().st_size < (tmp_path / "False").stat().st_size / 2
    assert content(tmp_path / "True", "qcow2") == disk.read_bytes()


def test_unknown_output_format(tool):
    with pytest.raises(ValueError, match="'qed' is none of"):
        tool.convert([], "/image", "qed")


def test_failure_carries_what_the_command_said(tool, tmp_path):
    disk = tmp_path / "disk"
    tool.create_raw(str(disk), MIB)
    source = chain.read_file(str(disk), "raw")
    with pytest.raises(exception.QemuImgFailed) as caught:
        tool.convert(source, "/nonexistent/image", "qcow2")
    assert (caught.value.command, caught.value.exit_code) == ("convert", 1)
    assert "No such file or directory" in caught.value.stderr


def test_command_that_is_not_installed(conf, tmp_path):
    with pytest.raises(exception.QemuImgFailed, match="qemu-img-of-nobody"):
        QemuImg(conf, "qemu-img-of-nobody").create_raw(str(tmp_path / "disk"), MIB)


def test_late_command_is_killed(conf, tmp_path):
    conf.set_override("qemu_img_timeout", 1, "libvirt")
    # Into the target, which is all that it may write to.
    program = script(
        tmp_path / "tool", "open(sys.argv[-1], 'w').write(str(os.getpid())); time.sleep(600)"
    )
    target = tmp_path / "image"
    (tmp_path / "disk").touch()
    source = chain.read_file(str(tmp_path / "disk"), "raw")
    began = time.monotonic()
    with pytest.raises(exception.QemuImgFailed, match="stopped after 1 s") as caught:
        QemuImg(conf, program).convert(source, str(target), "raw")
    assert caught.value.exit_code is None
    assert time.monotonic() - began < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int(target.read_text()), 0)


def test_disk_that_takes_much_memory_is_stopped(conf, tmp_path):
    (tmp_path / "disk").touch()
    program = script(tmp_path / "tool", "bytearray(16 << 30)")
    source = chain.read_file(str(tmp_path / "disk"), "raw")
    with pytest.raises(exception.QemuImgFailed, match="MemoryError"):
        QemuImg(conf, program).convert(source, str(tmp_path / "image"), "raw")


def test_what_takes_no_time_has_a_limit_of_processor_time(conf, tmp_path):
    program = script(
        tmp_path / "tool", "import resource; sys.exit(str(resource.getrlimit(resource.RLIMIT_CPU)))"
    )
    with pytest.raises(exception.QemuImgFailed, match=r"\(30, 30\)"):
        QemuImg(conf, program).create_raw(str(tmp_path / "disk"), MIB)


class TestEncryptedScratch:
    """QEMU that could not time itself is asked again; what else is wrong is wrong at once."""

    UNTIMED = "qemu-img: x: Unable to get accurate CPU usage"

    def make(self, conf, tmp_path, text) -> int:
        """:returns: how often the tool was run."""
        count = tmp_path / "count"
        program = script(
            tmp_path / "tool",
            f"with open({str(count)!r}, 'a') as file: file.write('x')\n"
            f"n = os.path.getsize({str(count)!r})\n{text}",
        )
        encryption = Encryption("luks", SecretReference("volume", usage="a key"))
        layer = chain.Layer(str(tmp_path / "scratch"), "qcow2", MIB, encryption=encryption)
        try:
            QemuImg(conf, program).create_encrypted(layer, secrets.NO_KEYS)
        finally:
            self.runs = len(count.read_text())
        return self.runs

    def test_untimed_twice(self, conf, tmp_path):
        text = f"sys.exit({self.UNTIMED!r} if n < 3 else 0)"
        assert self.make(conf, tmp_path, text) == 3

    def test_untimed_for_ever(self, conf, tmp_path):
        with pytest.raises(exception.QemuImgFailed, match="accurate CPU usage"):
            self.make(conf, tmp_path, f"sys.exit({self.UNTIMED!r})")
        assert self.runs == 6

    def test_another_error(self, conf, tmp_path):
        with pytest.raises(exception.QemuImgFailed, match="no space"):
            self.make(conf, tmp_path, "sys.exit('no space')")
        assert self.runs == 1


RBD = NetworkSource("rbd", "vms/x")
ISCSI = NetworkSource("iscsi", "iqn.2026-11.example:x")


class TestBackends:
    """By what the domain's XML says, and nothing else."""

    @staticmethod
    def disk(path="/disk", image_format="qcow2", source_type="file") -> domain_xml.Disk:
        return domain_xml.Disk("vda", "virtio", "disk", source_type, path, image_format)

    @pytest.mark.parametrize(
        ("image_format", "backend"), [("qcow2", imagebackend.Qcow2), ("raw", imagebackend.Raw)]
    )
    def test_known(self, tool, tmp_path, image_format, backend):
        path = tmp_path / "disk"
        if image_format == "raw":
            tool.create_raw(str(path), MIB)
        else:
            tool.create_overlay(str(path), [], MIB)
        write(path, image_format, "write -P 5 0 64k")
        made = imagebackend.snapshot_backend(self.disk(str(path), image_format), tool)
        assert type(made) is backend
        made.snapshot_extract(str(tmp_path / "image"), "raw")
        assert (tmp_path / "image").read_bytes() == (b"\5" * 65536).ljust(MIB, b"\0")

    @pytest.mark.parametrize(
        ("disk", "kind"),
        [
            (disk("/d", "qcow2"), "qcow2"),
            (disk("/d", "raw"), "raw"),
            (disk("/dev/vg/lv", "raw", "block"), "lvm"),
            (disk("/dev/vg/lv", "qcow2", "block"), "lvm"),
            (dataclasses.replace(disk(None, "raw", "network"), network=RBD), "rbd"),
            (dataclasses.replace(disk(None, "raw", "network"), network=ISCSI), "raw"),
            (disk("/d", "vmdk"), "vmdk"),
        ],
    )
    def test_kind_of_a_disk(self, disk, kind):
        """What the format of its snapshot is found by, where none is configured."""
        assert imagebackend.disk_type(disk) == kind

    def test_device_that_is_not_there(self, tool, tmp_path):
        gone = imagebackend.snapshot_backend(self.disk("/dev/vg/gone", "raw", "block"), tool)
        with pytest.raises(exception.LogicalVolumeUnavailable, match="Disk /dev/vg/gone"):
            gone.snapshot_extract(str(tmp_path / "image"), "raw")

    def test_secret_that_nobody_knows(self, tool, tmp_path):
        path = tmp_path / "disk"
        tool.create_raw(str(path), MIB)
        luks = Encryption("luks", SecretReference("volume", usage="a key"))
        disk = dataclasses.replace(self.disk(str(path), "raw"), encryption=luks)
        with pytest.raises(exception.SecretUnavailable, match="volume 'a key' is not known"):
            imagebackend.snapshot_backend(disk, tool).snapshot_extract(str(tmp_path / "i"), "raw")

    @pytest.mark.parametrize(
        ("image_format", "source_type"), [("vmdk", "file"), ("vmdk", "block"), ("raw", "network")]
    )
    def test_unknown(self, tool, image_format, source_type):
        disk = self.disk("/dev/x", image_format, source_type)
        assert not imagebackend.is_supported(disk)
        with pytest.raises(exception.UnsafeDisk, match="known: qcow2 in a file, raw in a file"):
            imagebackend.snapshot_backend(disk, tool)
