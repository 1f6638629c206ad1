# SPDX-License-Identifier: Apache-2.0
"""A disk read over NBD: from QEMU's own export of a backup, or from qemu-nbd's of a file."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

from oslo_log import log

from nova_snap.stream import errors, nbd_handshake
from nova_snap.stream import nbd_protocol as proto
from nova_snap.stream.nbd_extents import ExtentMap
from nova_snap.stream.nbd_requests import BlockStatus, Read
from nova_snap.stream.nbd_transmission import Transmission
from nova_snap.stream.nbd_wire import Deadline, Wire

LOG = log.getLogger(__name__)

TIMEOUT = 60.0
PIECE_SIZE = 960 << 10
"""The more at once the better, but less than 1 MiB: for a longer reply QEMU gets memory from the
system and gives it back each time, at 200 page faults, and twice the CPU time, per MiB."""
DEPTH = 4
MAX_DEPTH = 64
MAP_TIMEOUTS = 10
"""How many times the timeout of one reply the whole map may take."""


class Client:
    """A :class:`~nova_snap.stream.source.Source` on a unix socket; a context manager.

    One thread uses it. Only :meth:`close` may be called by another one, and makes the first one's
    call raise ``NBDClosed`` at once.

    It only ever reads. An error of the server (``NBDServerError``) leaves the connection usable;
    after any other error, each call raises ``NBDDisconnected``, and a new client is needed.

    :param path: of the server's socket.
    :param export: its name; empty for the server's default.
    :param timeout: in seconds, for the handshake and for each reply, counted while it is waited
        for: a server that sends a byte now and then is given up as one that sends nothing.
    :param piece_size: of the requests, in bytes; less where the server takes no such payload.
    :param depth: requests in flight. The client has as many buffers of ``piece_size``.
    """

    def __init__(
        self,
        path: str,
        export: str = "",
        *,
        timeout: float = TIMEOUT,
        piece_size: int = PIECE_SIZE,
        depth: int = DEPTH,
    ) -> None:
        if timeout <= 0 or piece_size <= 0 or not 0 < depth <= MAX_DEPTH:
            raise ValueError(
                f"timeout {timeout} and piece_size {piece_size} must be above 0, "
                f"depth {depth} within 1 and {MAX_DEPTH}"
            )
        self._name = export
        self._timeout = timeout
        self._piece_size = piece_size
        self._depth = depth
        self._wire = Wire(path)
        self._connected: tuple[proto.Export, Transmission] | None = None
        self._buffers: list[memoryview] = []
        self._read_flags = 0
        self._reader: object = None

    def connect(self) -> None:
        """Connect and agree with the server; ``with`` does it.

        :raises NBDConnectFailed: if nobody listens there.
        :raises NBDRefused: if the server does not have the export, or wants TLS.
        :raises NBDError: as any other call.
        """
        if self._connected:
            raise RuntimeError("the client is connected already")
        deadline = self._deadline("the handshake")
        try:
            self._wire.connect(deadline)
            export = nbd_handshake.negotiate(self._wire, self._name, deadline)
        except BaseException:
            self._wire.close()
            raise
        # In one piece: QEMU answers a read that fails with an error then; while it sends pieces,
        # it hangs up. That holes come as zeroes costs nothing: the map told of them before.
        if export.flags & proto.FLAG_SEND_DF and export.context is not None:
            self._read_flags = proto.COMMAND_FLAG_DF
        self._connected = export, Transmission(self._wire, export.structured)

    def close(self) -> None:
        """End the connection. May be called at any time, more than once, and by any thread."""
        farewell = b""
        if self._connected and self._connected[1].idle:
            farewell = proto.REQUEST.pack(proto.REQUEST_MAGIC, 0, proto.Command.DISC, 0, 0, 0)
        self._wire.close(farewell)

    def __enter__(self) -> Self:
        self.connect()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def size(self) -> int:
        """Virtual size in bytes."""
        return self.export.size

    @property
    def export(self) -> proto.Export:
        """What the handshake found out: flags, block sizes, whether there is a map."""
        return self._use()[0]

    @property
    def read_only(self) -> bool:
        """Whether the server would refuse writes, of any client."""
        return bool(self.export.flags & proto.FLAG_READ_ONLY)

    def extents(self) -> ExtentMap:
        """The whole disk in order, without gaps; neighbours differ in ``data``.

        Zero is what the server promises to read as zeroes; a hole without that promise is data. Of
        a server that offers no map (no structured replies, or no ``base:allocation``) all is data.

        :raises NBDTimeout: if one reply takes longer than the timeout, or all ten times that.
        :raises NBDError: any other.
        """
        export, transmission = self._use()
        disk = ExtentMap()
        if export.context is None:
            LOG.warning(
                "The NBD server at %s does not tell data from holes; all of the disk is read.",
                self._wire.path,
            )
            disk.append(export.size, data=True)
            return disk
        longest = proto.align_down(proto.MAX_REQUEST_LENGTH, export.preferred_block)
        whole = Deadline(self._timeout * MAP_TIMEOUTS, "the whole map of the disk")
        while disk.end < export.size:
            start = proto.align_down(disk.end, export.minimum_block)
            length = min(longest, export.size - start)
            request = BlockStatus(start, length, export.context, disk, export.size)
            deadline = whole if whole.left < self._timeout else self._deadline(f"a {request}")
            transmission.submit([request], deadline)
            transmission.wait(request, deadline)
        return disk

    def read(self, ranges: Iterable[tuple[int, int]]) -> Iterator[memoryview]:
        """The content of (offset, length) ranges, in their order, in pieces.

        The ranges are asked for as they are needed. The caller may stop at any piece; the replies
        in flight are then taken in by the next read. A later read ends an earlier one, which
        raises ``RuntimeError`` if it is asked for more.

        :returns: each piece lies within one range, follows the piece before it, and is valid until
            the next one is asked for; after that, using it raises ``ValueError``.
        :raises ValueError: if a range does not lie within the disk.
        :raises NBDServerError: when it is the turn of a piece that the server could not read.
        :raises NBDError: any other.
        """
        export, transmission = self._use()
        transmission.drain(self._deadline("replies to an earlier read"))
        self._reader = reader = object()
        pieces = self._split(ranges, export)
        free = deque(self._make_buffers(export))
        in_flight: deque[tuple[Read, memoryview, memoryview]] = deque()
        while True:
            deadline = self._deadline("a reply to a read")
            batch = []
            while free and (piece := next(pieces, None)):
                start, end, skip, length = piece
                buffer = free.popleft()
                request = Read(start, buffer[: end - start], self._read_flags)
                in_flight.append((request, buffer[skip : skip + length].toreadonly(), buffer))
                batch.append(request)
            if batch:
                transmission.submit(batch, deadline)
            if not in_flight:
                return
            request, view, buffer = in_flight.popleft()
            self._wait(request, transmission, deadline)
            yield view
            if self._reader is not reader:
                raise RuntimeError("a later read of the same client has begun")
            with contextlib.suppress(BufferError):
                view.release()
            free.append(buffer)

    def _wait(self, request: Read, transmission: Transmission, deadline: Deadline) -> None:
        """For a read; asked for again if it is too long for the server to send in one piece."""
        try:
            transmission.wait(request, deadline)
        except errors.NBDServerError as error:
            if not request.flags or error.code != proto.Errno.EOVERFLOW:
                raise
            self._read_flags = 0
            again = Read(request.offset, request.buffer)
            transmission.submit([again], deadline)
            transmission.wait(again, deadline)

    def _split(
        self, ranges: Iterable[tuple[int, int]], export: proto.Export
    ) -> Iterator[tuple[int, int, int, int]]:
        """Start and end of requests in whole blocks, and what of it was asked for."""
        block = export.minimum_block
        piece = self._effective_piece_size(export)
        cut = export.preferred_block if export.preferred_block <= piece else block
        for offset, length in ranges:
            end = offset + length
            if offset < 0 or length < 0 or end > export.size:
                raise ValueError(
                    f"{length} bytes at {offset} do not lie within a disk of {export.size}"
                )
            while offset < end:
                start = proto.align_down(offset, block)
                stop = min(end, proto.align_down(start + piece, cut))
                aligned = min(proto.align_up(stop, block), export.size)
                yield start, aligned, offset - start, stop - offset
                offset = stop

    def _effective_piece_size(self, export: proto.Export) -> int:
        piece = min(self._piece_size, export.maximum_payload)
        return max(export.minimum_block, proto.align_down(piece, export.minimum_block))

    def _make_buffers(self, export: proto.Export) -> list[memoryview]:
        if not self._buffers:
            size = self._effective_piece_size(export)
            self._buffers = [memoryview(bytearray(size)) for _ in range(self._depth)]
        return self._buffers

    def _use(self) -> tuple[proto.Export, Transmission]:
        if self._connected is None:
            raise errors.NBDDisconnected(server=self._wire.path, what="a call before the handshake")
        return self._connected

    def _deadline(self, what: str) -> Deadline:
        return Deadline(self._timeout, what)
