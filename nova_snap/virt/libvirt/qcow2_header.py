# SPDX-License-Identifier: Apache-2.0
"""The few fields of a qcow2 header that tell where a disk's data come from.

They are read here, and not by a tool, because a tool that opens the image may follow them. The
format is that of QEMU's docs/interop/qcow2.txt.
"""

import dataclasses
import struct
from typing import BinaryIO, Final

from nova_snap import exception

MAGIC: Final = b"QFI\xfb"

_MAX_BACKING_NAME = 1023
_MIN_CLUSTER_BITS = 9
_MAX_CLUSTER_BITS = 21

# magic, version, backing_file_offset, backing_file_size, cluster_bits, size, crypt_method
_FIXED = struct.Struct(">4sIQIIQI")
_V2_HEADER_LENGTH = 72
_V3_HEADER_LENGTH = 104
_INCOMPATIBLE_FEATURES = struct.Struct(">Q")
_INCOMPATIBLE_FEATURES_OFFSET = 72
_HEADER_LENGTH = struct.Struct(">I")
_HEADER_LENGTH_OFFSET = 100
_EXTENSION = struct.Struct(">II")
_EXTENSION_END = 0x00000000
_EXTENSION_BACKING_FORMAT = 0xE2792ACA
_EXTENSION_DATA_FILE = 0x44415441

_CRYPT_LUKS = 2
_FEATURE_DATA_FILE = 1 << 2
# dirty, corrupt, external data file, compression type, extended L2
_KNOWN_FEATURES = 0b11111


@dataclasses.dataclass(frozen=True)
class Qcow2Header:
    """:ivar virtual_size: bytes that the guest sees.

    :ivar backing_file: the name as it stands in the header; ``None`` without a backing file.
    :ivar backing_format: ``None`` if the header does not tell.
    """

    virtual_size: int
    backing_file: str | None
    backing_format: str | None


def read(file: BinaryIO, path: str, encrypted: bool = False) -> Qcow2Header:
    """Read the header of an open image.

    :param path: what to call the image in errors.
    :param encrypted: it must be encrypted with LUKS; else it must not be encrypted.
    :raises nova_snap.exception.UnsafeDisk: if this is no qcow2 image, is encrypted otherwise, or
        keeps its data in a file of another name.
    """
    start = _read_at(file, 0, _V3_HEADER_LENGTH, path, at_least=_V2_HEADER_LENGTH)
    magic, version, backing_offset, backing_size, cluster_bits, size, crypt = _FIXED.unpack_from(
        start
    )
    if magic != MAGIC:
        raise _refused(path, "it is said to be qcow2, but its header is not")
    if version not in (2, 3):
        raise _refused(path, f"it is qcow2 of version {version}; 2 and 3 are known")
    if not _MIN_CLUSTER_BITS <= cluster_bits <= _MAX_CLUSTER_BITS:
        raise _refused(path, f"its clusters are of 2^{cluster_bits} bytes")
    if encrypted and crypt != _CRYPT_LUKS:
        raise _refused(path, "it is said to be encrypted with LUKS, but its header is not")
    if crypt and not encrypted:
        raise _refused(path, "it is encrypted, and the domain does not say with which secret")
    header_length = _V2_HEADER_LENGTH
    if version == 3:
        header_length = _check_version_3(start, path)
    if not backing_offset:
        _check_extensions(file, header_length, 1 << cluster_bits, path)
        return Qcow2Header(virtual_size=size, backing_file=None, backing_format=None)
    if backing_size > _MAX_BACKING_NAME or backing_offset + backing_size > 1 << cluster_bits:
        raise _refused(path, "the name of its backing file lies outside of the header")
    backing_format = _check_extensions(file, header_length, backing_offset, path)
    name = _read_at(file, backing_offset, backing_size, path)
    return Qcow2Header(
        virtual_size=size,
        backing_file=_text(name, path, "the name of its backing file"),
        backing_format=backing_format,
    )


def _check_version_3(start: bytes, path: str) -> int:
    if len(start) < _V3_HEADER_LENGTH:
        raise _refused(path, "its header is cut off")
    (features,) = _INCOMPATIBLE_FEATURES.unpack_from(start, _INCOMPATIBLE_FEATURES_OFFSET)
    if features & _FEATURE_DATA_FILE:
        raise _refused(path, "its data are in an external data file")
    if features & ~_KNOWN_FEATURES:
        raise _refused(path, f"it uses unknown features: {features:#x}")
    (length,) = _HEADER_LENGTH.unpack_from(start, _HEADER_LENGTH_OFFSET)
    if length < _V3_HEADER_LENGTH or length % 8:
        raise _refused(path, f"its header claims to be {length} bytes long")
    return int(length)


def _check_extensions(file: BinaryIO, offset: int, end: int, path: str) -> str | None:
    """Walk the header extensions.

    :returns: the backing file's format, if one of them tells.
    """
    found = None
    while offset + _EXTENSION.size <= end:
        kind, length = _EXTENSION.unpack(_read_at(file, offset, _EXTENSION.size, path))
        offset += _EXTENSION.size
        if kind == _EXTENSION_END:
            break
        if length > end - offset:
            raise _refused(path, "a header extension is longer than the header")
        if kind == _EXTENSION_DATA_FILE:
            raise _refused(path, "its header names an external data file")
        if kind == _EXTENSION_BACKING_FORMAT:
            value = _read_at(file, offset, length, path)
            found = _text(value, path, "the format of its backing file")
        offset += (length + 7) // 8 * 8
    return found


def _read_at(
    file: BinaryIO, offset: int, length: int, path: str, at_least: int | None = None
) -> bytes:
    file.seek(offset)
    data = file.read(length)
    if len(data) < (length if at_least is None else at_least):
        raise _refused(path, "its header is cut off")
    return data


def _text(value: bytes, path: str, what: str) -> str:
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise _refused(path, f"{what} is not UTF-8: {value!r}") from None
    if not text or not text.isprintable():
        raise _refused(path, f"{what} is {text!r}")
    return text


def _refused(path: str, reason: str) -> exception.UnsafeDisk:
    return exception.UnsafeDisk(path=path, reason=reason)
