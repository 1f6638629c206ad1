# SPDX-License-Identifier: Apache-2.0
"""Which images no instance is made from: each as somebody who means harm would make it."""

import contextlib
import struct
import subprocess

import pytest
from oslo_utils.imageutils import format_inspector

from nova_snap import exception
from nova_snap.virt.libvirt import image_inspection

MIB = 1 << 20
IMAGE = "9e3d1b8c-9a70-4c0e-9d3f-5d2f6a1e0001"
GOOD = {
    "status": "active",
    "disk_format": "qcow2",
    "container_format": "bare",
    "size": 1 * MIB,
}


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"status": "queued"}, "its status is queued"),
        ({"status": "deactivated"}, "its status is deactivated"),
        ({"disk_format": "vmdk"}, "its disk_format is vmdk; instances are made from qcow2 and raw"),
        ({"disk_format": "iso"}, "iso"),
        ({"disk_format": "ami"}, "ami"),
        ({"disk_format": None}, "None"),
        ({"container_format": "ova"}, "its container_format is ova"),
        ({"container_format": "compressed"}, "compressed"),
        ({"size": 0}, "no data"),
        ({"size": None}, "no data"),
        ({"kernel_id": "k"}, "kernel_id"),
        ({"ramdisk_id": "r"}, "ramdisk_id"),
        ({"cinder_encryption_key_id": "e"}, "encrypted"),
    ],
)
def test_record(changes, reason):
    with pytest.raises(exception.ImageUnacceptable, match=reason) as caught:
        image_inspection.check_record(IMAGE, {**GOOD, **changes})
    assert caught.value.image_id == IMAGE


@pytest.mark.parametrize("changes", [{}, {"disk_format": "raw"}, {"container_format": None}])
def test_record_that_is_all_right(changes):
    image_inspection.check_record(IMAGE, {**GOOD, **changes})


class Maker:
    """Makes images in a directory of its own."""

    def __init__(self, directory):
        self.path = directory / "image"
        self.secret = directory / "secret"
        self.secret.write_bytes(b"secret" * 1000)

    def create(self, image_format, *options, size="1M"):
        command = ["qemu-img", "create", "-q", "-f", image_format, *options, self.path]
        subprocess.run([*command, size], check=True)

    def raw(self, start=b"", size=MIB):
        self.path.write_bytes(start.ljust(size, b"\0"))

    def patch(self, offset, value):
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(value)

    def features(self, bits):
        """Set incompatible features of a qcow2 header."""
        self.patch(72, struct.pack(">Q", bits))

    def data_file(self):
        """An image whose data are in another file, which is then one of the host's."""
        other = self.path.with_name("data")
        self.create("qcow2", "-o", f"data_file={other},data_file_raw=on")

    def data_file_in_the_extension_only(self):
        """The name of a data file, without the feature that says that there is one."""
        self.data_file()
        self.features(0)

    def backing_file(self):
        self.create("qcow2", "-F", "raw", "-b", str(self.secret))

    def backing_file_behind_a_protocol(self):
        """One that a tool would open as a block device specification of any kind."""
        name = b'json:{"driver":"file","filename":"/etc/shadow"}'
        self.create("qcow2")
        self.patch(8, struct.pack(">QI", 512, len(name)))
        self.patch(512, name)

    def encrypted(self):
        """Said only by the header's field: to make one takes qemu-img a time that it measures."""
        self.create("qcow2")
        self.patch(32, struct.pack(">I", 2))

    def vmdk_that_points_elsewhere(self):
        self.path.write_text(
            "# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
            'createType="monolithicFlat"\n\n'
            f'RW 2048 FLAT "{self.secret}" 0\n'
        )

    def cut_off(self):
        self.create("qcow2")
        with self.path.open("r+b") as file:
            file.truncate(60)

    def large(self, *pieces):
        """64 MiB, nearly all of it a hole."""
        with self.path.open("wb") as file:
            file.truncate(64 * MIB)
            for offset, data in pieces:
                file.seek(offset)
                file.write(data)

    def vhdx_without_an_end(self):
        """The tables of VHDX in a file that is none, with metadata far behind its end."""
        guid = bytes.fromhex("06a27c8b90479a4bb8fe575f050f886e")
        region = guid + struct.pack("<QII", 1 << 50, MIB, 1)
        self.large((192 << 10, struct.pack("<IIII", 0x69676572, 0, 1, 0) + region))

    def vmdk_without_an_end(self):
        """A header that says that the one at the end of the file counts."""
        header = struct.pack("<4sIIQQQQIQQ", b"KDMV", 1, 0, 2048, 128, 1, 20, 512, 0, 2**64 - 1)
        self.large((0, header.ljust(512, b"\0")))

    def iso(self):
        self.raw(bytes(32 << 10) + b"\1CD001\1")

    def iso_in_a_qcow2(self):
        self.create("qcow2")
        self.patch(32 << 10, b"\1CD001\1")

    def partitioned(self):
        """A disk with a master boot record."""
        entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", 1, 2047)
        self.raw(bytes(446) + entry.ljust(64, b"\0") + b"\x55\xaa")


@pytest.fixture
def made(tmp_path):
    return Maker(tmp_path)


HOSTILE = [
    ("backing file", lambda m: m.backing_file(), "qcow2", "backing file"),
    ("backing json", lambda m: m.backing_file_behind_a_protocol(), "qcow2", "backing file"),
    ("data file", lambda m: m.data_file(), "qcow2", "data_file"),
    ("data file hidden", lambda m: m.data_file_in_the_extension_only(), "qcow2", "data file"),
    ("unknown feature", lambda m: (m.create("qcow2"), m.features(1 << 40)), "qcow2", "features"),
    ("encrypted", lambda m: m.encrypted(), "qcow2", "encrypted"),
    ("cut off", lambda m: m.cut_off(), "qcow2", "its data are raw"),
    ("raw as qcow2", lambda m: m.raw(), "qcow2", "its data are raw"),
    ("vmdk as qcow2", lambda m: m.create("vmdk"), "qcow2", "its data are vmdk"),
    ("vdi as qcow2", lambda m: m.create("vdi"), "qcow2", "its data are vdi"),
    ("vmdk descriptor", lambda m: m.vmdk_that_points_elsewhere(), "qcow2", "vmdk"),
    ("qcow2 as raw", lambda m: m.create("qcow2"), "raw", "its data are qcow2"),
    ("backing file as raw", lambda m: m.backing_file(), "raw", "its data are qcow2"),
    ("vmdk as raw", lambda m: m.create("vmdk"), "raw", "its data are vmdk"),
    ("vhd as raw", lambda m: m.create("vpc", size="4M"), "raw", "its data are vhd"),
    ("vhdx as raw", lambda m: m.create("vhdx", size="4M"), "raw", "its data are vhdx"),
    ("qed as raw", lambda m: m.raw(b"QED\0"), "raw", "its data are qed"),
    ("iso as raw", lambda m: m.iso(), "raw", "its data are iso"),
    ("two at once", lambda m: m.iso_in_a_qcow2(), "qcow2", "ambiguous"),
    ("vmdk with a footer", lambda m: m.vmdk_without_an_end(), "raw", "its data are vmdk"),
    ("half a text", lambda m: m.raw(b"#" * 600 + b"\xff"), "raw", "cannot be told"),
    ("luks as raw", lambda m: m.raw(b"LUKS\xba\xbe\x00\x01"), "raw", "its data are luks"),
]


@pytest.mark.parametrize(
    ("make", "disk_format", "reason"),
    [row[1:] for row in HOSTILE],
    ids=[row[0] for row in HOSTILE],
)
def test_hostile_image(made, make, disk_format, reason):
    make(made)
    with pytest.raises(exception.ImageUnacceptable, match=reason) as caught:
        image_inspection.check_file(IMAGE, str(made.path), disk_format, 10)
    # The path of the cache on the host is nobody's business.
    assert str(made.path) not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "disk_format", "size"),
    [
        (lambda m: m.raw(), "raw", MIB),
        (lambda m: m.raw(b"anything"), "raw", MIB),
        (lambda m: m.raw(size=700), "raw", 700),
        (lambda m: m.partitioned(), "raw", MIB),
        (lambda m: m.create("qcow2"), "qcow2", MIB),
        (lambda m: m.create("qcow2", "-o", "compat=0.10"), "qcow2", MIB),
        (lambda m: m.create("qcow2", "-o", "compression_type=zstd"), "qcow2", MIB),
        (lambda m: m.create("qcow2", "-o", "lazy_refcounts=on"), "qcow2", MIB),
    ],
)
def test_image_that_is_all_right(made, make, disk_format, size):
    make(made)
    assert image_inspection.check_file(IMAGE, str(made.path), disk_format, 0) == size


@pytest.mark.parametrize("made_so", ["vhdx_without_an_end", "vmdk_without_an_end", "large"])
def test_only_the_beginning_is_looked_at(made, monkeypatch, made_so):
    """Whatever the headers say: it is done for each instance, and nothing can stop it."""
    getattr(made, made_so)()
    read = []
    process = format_inspector.RawFileInspector.eat_chunk

    def count(inspector, chunk):
        read.append(len(chunk))
        process(inspector, chunk)

    monkeypatch.setattr(format_inspector.RawFileInspector, "eat_chunk", count)
    refused = contextlib.nullcontext()
    if made_so == "vmdk_without_an_end":
        refused = pytest.raises(exception.ImageUnacceptable, match="its data are vmdk")
    with refused:
        assert image_inspection.check_file(IMAGE, str(made.path), "raw", 0) == 64 * MIB
    assert sum(read) <= MIB


@pytest.mark.parametrize(("size", "root_gb", "fits"), [
    ("1G", 1, True), ("1025M", 1, False), ("2G", 2, True), ("100G", 0, True),
])  # fmt: skip
def test_size(made, size, root_gb, fits):
    made.create("qcow2", size=size)
    if fits:
        image_inspection.check_file(IMAGE, str(made.path), "qcow2", root_gb)
        return
    with pytest.raises(exception.ImageUnacceptable, match="flavor has a disk of 1 GiB"):
        image_inspection.check_file(IMAGE, str(made.path), "qcow2", root_gb)
