# SPDX-License-Identifier: Apache-2.0
"""Headers of disks: what a guest's owner, or whoever made an image, may have written.

The header's reader, the chain of backing files, and the look at a downloaded image.
"""

import io
import os
import struct
from collections.abc import Hashable, Sequence
from pathlib import Path

from nova_snap import exception
from nova_snap.virt.libvirt import chain, image_inspection, qcow2_header
from tests.fuzz.target import Finding, Target

_LONGEST = 2 << 20
_SECRET = b"what only the host may read\n"


def header(
    version: int = 3,
    backing: bytes = b"",
    extensions: bytes = b"",
    features: int = 0,
    size: int = 1 << 30,
) -> bytes:
    """A qcow2 file with nothing in it, as docs/interop/qcow2.txt of QEMU has it."""
    length = 104 if version == 3 else 72
    place = length + len(extensions) + 8
    fixed = struct.pack(
        ">4sIQIIQIIQQIIQ",
        b"QFI\xfb",
        version,
        place if backing else 0,
        len(backing),
        16,
        size,
        0,
        2,
        3 << 16,
        1 << 16,
        1,
        0,
        0,
    )
    more = struct.pack(">QQQII", features, 0, 0, 4, 104) if version == 3 else b""
    data = (fixed + more)[:length] + extensions + bytes(8) + backing
    tables = bytearray(4 << 16)
    tables[: len(data)] = data
    return bytes(tables)


def extension(kind: int, data: bytes) -> bytes:
    return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)


class Qcow2(Target):
    guided = True

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._disk = directory / "disk"
        (directory / "base").write_bytes(bytes(4096))
        (directory / "secret").write_bytes(_SECRET)

    def seeds(self) -> Sequence[bytes]:
        formats = extension(0xE2792ACA, b"raw")
        names = extension(0x6803F857, bytes(48))
        return [
            header()[:65536],
            header(2)[:512],
            header(backing=b"base", extensions=formats)[:512],
            header(backing=b"base")[:512],
            header(backing=b"/etc/passwd", extensions=formats)[:512],
            header(backing=b"disk", extensions=extension(0xE2792ACA, b"qcow2"))[:512],
            header(backing=b'json:{"driver":"raw"}', extensions=names + formats)[:512],
            header(extensions=extension(0x44415441, b"secret"))[:512],
            header(features=4)[:512],
            header(size=(1 << 64) - 1)[:512],
            b"\x53\xef" + bytes(600),
            bytes(510) + b"\x55\xaa" + b"EFI PART" + bytes(600),
            b"KDMV" + bytes(508),
            b"conectix" + bytes(504),
            bytes(32768) + b"\x01CD001\x01" + bytes(2048),
        ]

    def run(self, data: bytes) -> Hashable:
        data = data[:_LONGEST]
        with self._disk.open("wb") as file:
            file.write(data)
        return (self._header(data), self._chain(), *map(self._inspect, ("qcow2", "raw")))

    def _header(self, data: bytes) -> Hashable:
        try:
            found = qcow2_header.read(io.BytesIO(data), "disk")
        except exception.UnsafeDisk as error:
            return error.reason[:24]
        if found.virtual_size < 0 or found.backing_file == "":
            raise Finding("a header without sense is believed", repr(found))
        return found.backing_file is None, found.backing_format

    def _chain(self) -> Hashable:
        try:
            layers = chain.read_file(str(self._disk), "qcow2")
        except exception.UnsafeDisk as error:
            return error.reason[:24]
        for layer in layers:
            if not os.path.isabs(layer.path) or layer.format not in chain.SUPPORTED_FORMATS:
                raise Finding("a layer that must not be read is in a chain", repr(layer))
        if not chain.filename(layers).startswith("json:{"):
            raise Finding("a chain is not told in full")
        return len(layers)

    def _inspect(self, image_format: str) -> Hashable:
        try:
            size = image_inspection.check_file("image", str(self._disk), image_format, 1)
        except exception.ImageUnacceptable as error:
            return error.reason[:24]
        if not 0 <= size <= 1 << 30:
            raise Finding("an image is accepted that does not fit", str(size))
        return "accepted"


TARGET = Qcow2
