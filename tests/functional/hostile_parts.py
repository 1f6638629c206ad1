# SPDX-License-Identifier: Apache-2.0
"""Disks that somebody has made who wants the host's files, or the host's time."""

from __future__ import annotations

import dataclasses
import os
import struct
from collections.abc import Callable
from pathlib import Path

from tests.fixtures.commands import run

MIB = 1 << 20
MARKER = b"what only the host may know "
CLUSTER = 64 << 10

BACKING_FORMAT = 0xE2792ACA
DATA_FILE = 0x44415441

# Offsets of fields in a qcow2 header (QEMU, docs/interop/qcow2.txt), with their layouts.
BACKING = 8, ">QI"
CLUSTER_BITS = 20, ">I"
SIZE = 24, ">Q"
CRYPT = 32, ">I"
L1_SIZE = 36, ">I"
L1_OFFSET = 40, ">Q"
REFCOUNTS = 48, ">QI"
SNAPSHOTS = 60, ">IQ"
INCOMPATIBLE = 72, ">Q"
REFCOUNT_ORDER = 96, ">I"
HEADER_LENGTH = 100, ">I"


@dataclasses.dataclass
class Trap:
    """A directory with a secret of the host's, and a disk to be.

    :ivar secret: a file that only root may read.
    """

    directory: Path

    def __post_init__(self) -> None:
        self.secret = self.directory / "host" / "secret"
        self.secret.parent.mkdir(mode=0o700)
        self.secret.write_bytes(MARKER * (MIB // len(MARKER)))
        self.secret.chmod(0o600)
        self.path = self.directory / "vm" / "disk"
        self.path.parent.mkdir()

    # -- raw disks, of which a guest writes every byte ---------------------------------------

    def raw(self, *pieces: tuple[int, bytes]) -> bytes:
        """Random data with these pieces in it."""
        content = bytearray(os.urandom(2 * MIB))
        for offset, piece in pieces:
            content[offset : offset + len(piece)] = piece
        self.path.write_bytes(content)
        return bytes(content)

    def header(self, *names: tuple[int, bytes], backing: bytes = b"") -> bytes:
        """A qcow2 header that a guest writes.

        :param names: header extensions.
        """
        extensions = b"".join(
            struct.pack(">II", kind, len(data)) + data + b"\0" * (-len(data) % 8)
            for kind, data in names
        ) + struct.pack(">II", 0, 0)
        offset = 104 + len(extensions) if backing else 0
        features = 1 << 2 if any(kind == DATA_FILE for kind, _ in names) else 0
        fixed = struct.pack(
            ">4sIQIIQIIQQIIQQQQII",
            *(b"QFI\xfb", 3, offset, len(backing), 16, MIB, 0),
            *(1, CLUSTER, 2 * CLUSTER, 1, 0, 0),
            *(features, 0, 0, 4, 104),
        )
        return fixed + extensions + backing

    # -- qcow2 disks, whose header somebody has changed --------------------------------------

    def qcow2(self, *options: str, size: str = "1M", data: bool = True) -> None:
        run("qemu-img", "create", "-q", "-f", "qcow2", *options, self.path, size)
        if data:
            run("qemu-io", "-f", "qcow2", "-c", "write -P 7 0 128k", self.path)

    def patch(self, field: tuple[int, str], *values: int) -> None:
        self.write(field[0], struct.pack(field[1], *values))

    def write(self, offset: int, data: bytes) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data)

    def value(self, field: tuple[int, str]) -> int:
        with self.path.open("rb") as file:
            file.seek(field[0])
            return int(struct.unpack(field[1], file.read(struct.calcsize(field[1])))[0])

    def first_entry(self, value: int) -> None:
        """Have the first cluster of the guest be whatever this entry says."""
        l1 = self.value(L1_OFFSET)
        l2 = self.value((l1, ">Q")) & 0x00FFFFFFFFFFFE00
        self.write(l2, struct.pack(">Q", value))

    def names_backing(self, name: bytes, image_format: bytes = b"raw") -> None:
        """The header of an image without a backing file gets one."""
        self.qcow2()
        extension = struct.pack(">II", BACKING_FORMAT, len(image_format)) + image_format
        self.write(self.value(HEADER_LENGTH), extension.ljust(16, b"\0") + bytes(8))
        self.write(1024, name)
        self.patch(BACKING, 1024, len(name))

    def snapshots(self, count: int) -> None:
        """As many internal snapshots, all of the disk as it is."""
        self.qcow2()
        l1 = self.value(L1_OFFSET)
        table = b""
        for number in range(count):
            name = str(number).encode()
            entry = struct.pack(">QIHHIIQII", l1, 1, len(name), len(name), 0, 0, 0, 0, 16)
            entry += struct.pack(">QQ", 0, MIB) + name + name
            table += entry + b"\0" * (-len(entry) % 8)
        offset = -(-self.path.stat().st_size // CLUSTER) * CLUSTER
        self.write(offset, table)
        self.patch(SNAPSHOTS, count, offset)


Make = Callable[[Trap], object]

RAW: dict[str, Make] = {
    "qcow2 over a host file": lambda t: t.raw(
        (0, t.header((BACKING_FORMAT, b"raw"), backing=str(t.secret).encode()))
    ),
    "qcow2 with a data file": lambda t: t.raw(
        (0, t.header((DATA_FILE, str(t.secret).encode())))
    ),
    "vmdk descriptor": lambda t: t.raw(
        (
            0,
            b"# Disk DescriptorFile\nversion=1\nCID=1\nparentCID=ffffffff\n"
            b'createType="monolithicFlat"\n\nRW 2048 FLAT "%s" 0\n' % str(t.secret).encode(),
        )
    ),
    "luks": lambda t: t.raw((0, b"LUKS\xba\xbe\0\1")),
    "gpt and iso and qcow2": lambda t: t.raw(
        (0, t.header(backing=b"/etc/shadow")), (510, b"\x55\xaa"), (512, b"EFI PART"),
        (32769, b"CD001\1"),
    ),
    "qcow2 at an odd place": lambda t: t.raw((513, t.header(backing=b"/etc/shadow"))),
}  # fmt: skip
"""Raw disks whose content pretends to be something else. It is their content all the same."""

REFUSED: dict[str, tuple[Make, str]] = {
    "host file as backing": (
        lambda t: t.names_backing(str(t.secret).encode()), "not everybody on this host may read",
    ),
    "shadow as backing": (
        lambda t: t.names_backing(b"/etc/shadow"), "not everybody on this host may read",
    ),
    "relative path out": (
        lambda t: t.names_backing(b"../host/secret"), "not everybody on this host may read",
    ),
    "memory as backing": (
        lambda t: t.names_backing(b"/proc/self/mem"), "not everybody on this host may read",
    ),
    "device as backing": (lambda t: t.names_backing(b"/dev/zero"), "not a regular file"),
    "json as backing": (
        lambda t: t.names_backing(b'json:{"driver":"file","filename":"/etc/shadow"}'),
        "not a plain file name",
    ),
    "host file as data": (
        lambda t: t.qcow2("-o", f"data_file={t.directory / 'vm' / 'data'}"), "external data file",
    ),
    "encrypted": (lambda t: (t.qcow2(), t.patch(CRYPT, 2)), "is encrypted"),
    "2^60 bytes": (
        lambda t: (
            t.qcow2("-o", "cluster_size=2M"), t.patch(SIZE, 1 << 60), t.patch(L1_SIZE, 1 << 21),
        ),
        "claims to have",
    ),
    "huge L1": (lambda t: (t.qcow2(), t.patch(L1_SIZE, 0xFFFFFFFF)), "L1 table"),
    "L1 of nothing": (lambda t: (t.qcow2(), t.patch(L1_SIZE, 0)), "L1 table is too small"),
    "L1 beyond everything": (
        lambda t: (t.qcow2(), t.patch(L1_OFFSET, (1 << 63) - CLUSTER)), "L1 table",
    ),
    "L1 at an odd place": (lambda t: (t.qcow2(), t.patch(L1_OFFSET, 12345)), "L1 table offset"),
    "refcounts beyond everything": (
        lambda t: (t.qcow2(), t.patch(REFCOUNTS, (1 << 63) - CLUSTER, 1)), "eference count table",
    ),
    "huge refcounts": (
        lambda t: (t.qcow2(), t.patch(REFCOUNTS, CLUSTER, 0x7FFFFFFF)), "eference count table",
    ),
    "no refcounts": (lambda t: (t.qcow2(), t.patch(REFCOUNTS, CLUSTER, 0)), "eference count table"),
    "refcount width": (lambda t: (t.qcow2(), t.patch(REFCOUNT_ORDER, 60)), "eference count"),
    "too many snapshots": (
        lambda t: (t.qcow2(), t.patch(SNAPSHOTS, 10_000_000, 10 * CLUSTER)), "napshot",
    ),
    "snapshots beyond everything": (
        lambda t: (t.qcow2(), t.patch(SNAPSHOTS, 1, (1 << 63) - CLUSTER)), "napshot",
    ),
    "clusters of 2^63": (lambda t: (t.qcow2(), t.patch(CLUSTER_BITS, 63)), "2^63"),
    "clusters of 2^8": (lambda t: (t.qcow2(), t.patch(CLUSTER_BITS, 8)), "2^8"),
    "extension beyond the file": (
        lambda t: (t.qcow2(), t.write(t.value(HEADER_LENGTH), struct.pack(">II", 1, 0x7FFFFFFF))),
        "longer than the header",
    ),
    "length of the header": (
        lambda t: (t.qcow2(), t.patch(HEADER_LENGTH, 0xFFFFFFF8)), "header",
    ),
    "unknown feature": (lambda t: (t.qcow2(), t.patch(INCOMPATIBLE, 1 << 40)), "unknown features"),
    "raw as qcow2": (lambda t: t.raw(), "its header is not"),
    "garbage that is compressed": (
        # A compressed cluster of 512 bytes of the header.
        lambda t: (t.qcow2(), t.first_entry(1 << 62)), "failed with EIO",
    ),
}  # fmt: skip
"""qcow2 disks of which there is no image, with a word of the reason."""

TAKEN: dict[str, Make] = {
    "10,000 snapshots": lambda t: t.snapshots(10_000),
    "dirty": lambda t: (t.qcow2(), t.patch(INCOMPATIBLE, 1)),
    "corrupt": lambda t: (t.qcow2(), t.patch(INCOMPATIBLE, 2)),
    "both": lambda t: (t.qcow2(), t.patch(INCOMPATIBLE, 3)),
    "cluster that is the header": lambda t: (t.qcow2(), t.first_entry(1 << 63)),
    "cluster that is a table": lambda t: (t.qcow2(), t.first_entry((1 << 63) | CLUSTER)),
    "cluster beyond the file": lambda t: (t.qcow2(), t.first_entry((1 << 63) | (1 << 40))),
    "table beyond the file": lambda t: (
        t.qcow2(),
        t.write(t.value(L1_OFFSET), struct.pack(">Q", (1 << 63) | (1 << 40))),
    ),
}
"""qcow2 disks that are odd, and of which there is an image of what a guest sees."""
