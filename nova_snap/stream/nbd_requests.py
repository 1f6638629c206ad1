# SPDX-License-Identifier: Apache-2.0
"""Requests in flight: each knows what its reply may be, and takes it in."""

import abc
from bisect import bisect_left
from typing import ClassVar

from nova_snap.stream import errors
from nova_snap.stream import nbd_protocol as proto
from nova_snap.stream.nbd_extents import ExtentMap
from nova_snap.stream.nbd_protocol import ChunkType, Command
from nova_snap.stream.nbd_wire import Deadline, Wire

MAX_STATUS_LENGTH = 16 << 20
"""Bytes of one block status reply. nbdkit stops at a million extents, which are 8 MiB; QEMU
stops earlier."""

SPARE_CHUNKS = 1024
"""That a reply may have beyond one for each sector of the request."""

SECTOR = 512
ZEROES = bytes(64 << 10)


class Request(abc.ABC):
    """What was asked for, and what has come in answer to it.

    :ivar flags: of the command.
    :ivar cookie: the handle on the wire.
    :ivar done: the reply has come in full.
    :ivar error: the first one that the server told of.
    """

    command: ClassVar[Command]
    operation: ClassVar[str]

    def __init__(self, offset: int, length: int, flags: int = 0) -> None:
        self.offset = offset
        self.length = length
        self.flags = flags
        self.cookie = 0
        self.done = False
        self.error: errors.NBDServerError | None = None
        self._chunks = 0

    def __str__(self) -> str:
        return f"{self.operation} of {self.length} bytes at {self.offset}"

    def pack(self) -> bytes:
        return proto.REQUEST.pack(
            proto.REQUEST_MAGIC, self.flags, self.command, self.cookie, self.offset, self.length
        )

    def count_chunk(self, wire: Wire) -> None:
        """Bound what a server may send without getting on."""
        self._chunks += 1
        most = self.length // SECTOR + SPARE_CHUNKS
        if self._chunks > most:
            raise _broken(wire, f"at most {most} chunks in reply to a {self}", "more")

    def fail(self, wire: Wire, code: int, offset: int | None = None, reason: str = "") -> None:
        """Note an error of the server; the reply may go on after it."""
        self.error = self.error or errors.NBDServerError(
            server=wire.path,
            operation=self.operation,
            code=code,
            name=proto.name_of(proto.Errno, code),
            offset=self.offset if offset is None else offset,
            length=self.length,
            reason=reason or "no reason was given",
        )

    @abc.abstractmethod
    def take_chunk(self, chunk: proto.Chunk, wire: Wire, deadline: Deadline) -> None:
        """Receive the payload of a chunk that is not an error."""

    def take_all(self, wire: Wire, deadline: Deadline) -> None:  # noqa: ARG002
        """Receive what follows a simple reply without error, where replies are not structured."""
        raise _broken(wire, f"a structured reply to a {self}", "a simple one")

    @abc.abstractmethod
    def missing(self) -> str:
        """What a reply without error lacks; nothing if it is whole."""


class Read(Request):
    """:param buffer: for the content; as long as the request."""

    command = Command.READ
    operation = "read"

    def __init__(self, offset: int, buffer: memoryview, flags: int = 0) -> None:
        super().__init__(offset, len(buffer), flags)
        self.buffer = buffer
        # What has come, as sorted spans that do not touch: usually one.
        self._starts: list[int] = []
        self._ends: list[int] = []

    def take_chunk(self, chunk: proto.Chunk, wire: Wire, deadline: Deadline) -> None:
        if chunk.type == ChunkType.OFFSET_DATA:
            if chunk.length <= proto.U64.size:
                raise _broken(wire, "at least a byte in a data chunk", f"{chunk.length} in all")
            (offset,) = proto.U64.unpack(wire.receive(proto.U64.size, deadline))
            place = self._claim(offset, chunk.length - proto.U64.size, wire)
            wire.receive_into(place, deadline)
        elif chunk.type == ChunkType.OFFSET_HOLE:
            if chunk.length != proto.HOLE.size:
                raise _broken(wire, f"a hole chunk of {proto.HOLE.size} bytes", f"{chunk.length}")
            offset, length = proto.HOLE.unpack(wire.receive(chunk.length, deadline))
            place = self._claim(offset, length, wire)
            for start in range(0, len(place), len(ZEROES)):
                part = place[start : start + len(ZEROES)]
                part[:] = ZEROES[: len(part)]
        else:
            raise _broken(wire, f"content of a {self}", proto.name_of(ChunkType, chunk.type))

    def take_all(self, wire: Wire, deadline: Deadline) -> None:
        wire.receive_into(self._claim(self.offset, self.length, wire), deadline)

    def missing(self) -> str:
        if self._starts == [0] and self._ends == [self.length]:
            return ""
        came = sum(self._ends) - sum(self._starts)
        return f"{came} of {self.length} bytes"

    def _claim(self, offset: int, length: int, wire: Wire) -> memoryview:
        """The place of a part that has not come before."""
        start = offset - self.offset
        end = start + length
        found = f"a chunk of {length} bytes at {offset}"
        if length == 0 or start < 0 or end > self.length:
            raise _broken(wire, f"chunks within a {self}", found)
        at = bisect_left(self._starts, start)
        if (at and self._ends[at - 1] > start) or (
            at < len(self._starts) and self._starts[at] < end
        ):
            raise _broken(wire, "chunks that do not overlap", found)
        self._starts.insert(at, start)
        self._ends.insert(at, end)
        for left in (at, at - 1):
            if (
                left >= 0
                and left + 1 < len(self._starts)
                and (self._ends[left] == self._starts[left + 1])
            ):
                del self._ends[left], self._starts[left + 1]
        return self.buffer[start:end]


class BlockStatus(Request):
    """:param disk: the map that the reply is added to.
    :param size: of the export, in bytes.
    """

    command = Command.BLOCK_STATUS
    operation = "block status"

    def __init__(self, offset: int, length: int, context: int, disk: ExtentMap, size: int) -> None:
        super().__init__(offset, length)
        self._context = context
        self._disk = disk
        self._size = size
        self._answered = False

    def take_chunk(self, chunk: proto.Chunk, wire: Wire, deadline: Deadline) -> None:
        if chunk.type != ChunkType.BLOCK_STATUS or self._answered:
            raise _broken(wire, f"one {self}", proto.name_of(ChunkType, chunk.type))
        count, rest = divmod(chunk.length - proto.U32.size, proto.DESCRIPTOR.size)
        if count < 1 or rest or chunk.length > MAX_STATUS_LENGTH:
            raise _broken(
                wire,
                f"4 + n * 8 bytes of block status, at most {MAX_STATUS_LENGTH}",
                f"{chunk.length}",
            )
        payload = memoryview(wire.receive(chunk.length, deadline))
        (context,) = proto.U32.unpack_from(payload)
        if context != self._context:
            raise _broken(wire, f"context {self._context}", f"{context}")
        self._answered = True
        self._map(payload[proto.U32.size :], wire)

    def missing(self) -> str:
        return "" if self._answered else "none"

    def _map(self, descriptors: memoryview, wire: Wire) -> None:
        """Only the last one may reach beyond what was asked for, and none beyond the disk."""
        disk = self._disk
        before = disk.end
        position = self.offset
        asked = self.offset + self.length
        for length, flags in proto.DESCRIPTOR.iter_unpack(descriptors):
            if not length or position >= asked or position + length > self._size:
                raise _broken(
                    wire,
                    f"descriptors that cover a {self} of {self._size}",
                    f"one of {length} bytes at {position}",
                )
            position += length
            # The request may have begun before the end of the map, at the edge of a block.
            if position > disk.end:
                disk.append(position - disk.end, not flags & proto.STATE_ZERO)
        if disk.end == before:
            raise _broken(wire, f"the status of what is beyond {before}", "none")


def _broken(wire: Wire, expected: str, found: str) -> errors.NBDProtocolError:
    return errors.NBDProtocolError(server=wire.path, expected=expected, found=found)
