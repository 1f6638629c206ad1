# SPDX-License-Identifier: Apache-2.0
"""The NBD protocol's numbers and structures, as far as a reader needs them.

Source: ``doc/proto.md`` of https://github.com/NetworkBlockDevice/nbd. All numbers are big-endian.
"""

import enum
import struct
from typing import NamedTuple

NBD_MAGIC = 0x4E42444D41474943
OPTION_MAGIC = 0x49484156454F5054
OPTION_REPLY_MAGIC = 0x0003E889045565A9
REQUEST_MAGIC = 0x25609513
SIMPLE_REPLY_MAGIC = 0x67446698
STRUCTURED_REPLY_MAGIC = 0x668E33EF

GREETING = struct.Struct(">QQH")
CLIENT_FLAGS = struct.Struct(">I")
OPTION = struct.Struct(">QII")
OPTION_REPLY = struct.Struct(">QIII")
INFO_EXPORT_BODY = struct.Struct(">QH")
INFO_BLOCK_SIZE_BODY = struct.Struct(">III")
REQUEST = struct.Struct(">IHHQQI")
# Both kinds of reply begin with 16 bytes, and have the cookie in the second half of them.
SIMPLE_REPLY = struct.Struct(">IIQ")
STRUCTURED_REPLY = struct.Struct(">IHHQ")
U16 = struct.Struct(">H")
U32 = struct.Struct(">I")
U64 = struct.Struct(">Q")
HOLE = struct.Struct(">QI")
ERROR_HEAD = struct.Struct(">IH")
DESCRIPTOR = struct.Struct(">II")

FLAG_FIXED_NEWSTYLE = 1 << 0
FLAG_NO_ZEROES = 1 << 1

FLAG_READ_ONLY = 1 << 1
FLAG_SEND_DF = 1 << 7
FLAG_CAN_MULTI_CONN = 1 << 8

COMMAND_FLAG_DF = 1 << 2
"""Of a read: answer in one piece."""

INFO_EXPORT = 0
INFO_BLOCK_SIZE = 3

ERROR_REPLY = 1 << 31
"""In the type of an option reply: the option was refused."""

REPLY_DONE = 1 << 0
"""In the flags of a chunk: the last one of its reply."""

ERROR_CHUNK = 1 << 15
"""In the type of a chunk: it tells of an error."""

STATE_ZERO = 1 << 1
"""In the flags of a ``base:allocation`` descriptor: reads as zeroes.

The flag beside it, ``NBD_STATE_HOLE``, promises nothing about the content.
"""

BASE_ALLOCATION = b"base:allocation"

MAX_STRING = 4096
"""Bytes, of names and messages."""

MAX_MINIMUM_BLOCK = 1 << 16
DEFAULT_MAXIMUM_PAYLOAD = 32 << 20
"""Bytes that a server which names no limit is bound to accept in one request."""

MAX_REQUEST_LENGTH = (1 << 32) - 1


class Option(enum.IntEnum):
    ABORT = 2
    GO = 7
    STRUCTURED_REPLY = 8
    SET_META_CONTEXT = 10


class Rep(enum.IntEnum):
    """Types of option replies."""

    ACK = 1
    INFO = 3
    META_CONTEXT = 4
    ERR_UNSUP = ERROR_REPLY + 1
    ERR_POLICY = ERROR_REPLY + 2
    ERR_INVALID = ERROR_REPLY + 3
    ERR_PLATFORM = ERROR_REPLY + 4
    ERR_TLS_REQD = ERROR_REPLY + 5
    ERR_UNKNOWN = ERROR_REPLY + 6
    ERR_SHUTDOWN = ERROR_REPLY + 7
    ERR_BLOCK_SIZE_REQD = ERROR_REPLY + 8
    ERR_TOO_BIG = ERROR_REPLY + 9


class Command(enum.IntEnum):
    READ = 0
    DISC = 2
    BLOCK_STATUS = 7


class ChunkType(enum.IntEnum):
    NONE = 0
    OFFSET_DATA = 1
    OFFSET_HOLE = 2
    BLOCK_STATUS = 5
    ERROR = ERROR_CHUNK + 1
    ERROR_OFFSET = ERROR_CHUNK + 2


class Errno(enum.IntEnum):
    """The error numbers that the protocol knows; they are the same on every platform."""

    EPERM = 1
    EIO = 5
    ENOMEM = 12
    EINVAL = 22
    ENOSPC = 28
    EOVERFLOW = 75
    ENOTSUP = 95
    ESHUTDOWN = 108


class Chunk(NamedTuple):
    """The head of one chunk of a structured reply.

    :ivar length: of its payload, in bytes.
    """

    flags: int
    type: int
    cookie: int
    length: int

    @property
    def done(self) -> bool:
        return bool(self.flags & REPLY_DONE)


class Export(NamedTuple):
    """What the handshake found out.

    :ivar size: in bytes.
    :ivar minimum_block: that offsets and lengths of requests must be multiples of.
    :ivar preferred_block: that they should be multiples of.
    :ivar maximum_payload: of one request, in bytes.
    :ivar context: the id of ``base:allocation``; ``None`` if the server does not offer it.
    """

    size: int
    flags: int
    structured: bool
    context: int | None
    minimum_block: int = 1
    preferred_block: int = 4096
    maximum_payload: int = DEFAULT_MAXIMUM_PAYLOAD


def name_of(kind: type[enum.IntEnum], value: int) -> str:
    """The name of a number from the server, for messages."""
    try:
        return kind(value).name
    except ValueError:
        return f"{kind.__name__} {value:#x}"


def text(data: bytes | bytearray | memoryview) -> str:
    """A server's words, made fit for a line of a log."""
    words = bytes(data[:MAX_STRING]).decode(errors="replace")[:200]
    return "".join(char if char.isprintable() else "?" for char in words)


def align_down(value: int, block: int) -> int:
    return value - value % block


def align_up(value: int, block: int) -> int:
    return value + -value % block
