# SPDX-License-Identifier: Apache-2.0
"""The fixed newstyle handshake: from a fresh connection to an export that can be read."""

import contextlib
import struct
from collections.abc import Iterator

from nova_snap.stream import errors
from nova_snap.stream import nbd_protocol as proto
from nova_snap.stream.nbd_wire import Deadline, Wire

MAX_REPLIES = 64
"""To one option; the protocol knows four kinds of information and one context that we ask for."""

MAX_REPLY_LENGTH = proto.MAX_STRING + 64
MAX_SIZE = (1 << 63) - 1

# Refusals after which no other option is worth a try.
FATAL = {proto.Rep.ERR_SHUTDOWN, proto.Rep.ERR_TLS_REQD}


def negotiate(wire: Wire, export: str, deadline: Deadline) -> proto.Export:
    """Agree on structured replies and ``base:allocation`` if the server can, and on the export.

    :param export: its name; empty for the server's default.
    :raises NBDRefused: if there is no such export, or the server wants something that this client
        has not (TLS).
    :raises NBDProtocolError: if what the server says is not the protocol.
    :raises NBDTimeout: if it takes longer than ``deadline``.
    :raises NBDDisconnected: if the connection ends.
    """
    handshake = _Handshake(wire, export, deadline)
    handshake.greet()
    try:
        structured = handshake.structured_replies()
        context = handshake.allocation_context() if structured else None
        return handshake.go(structured, context)
    except errors.NBDRefused:
        with contextlib.suppress(errors.NBDError):
            wire.send(proto.OPTION.pack(proto.OPTION_MAGIC, proto.Option.ABORT, 0), deadline)
        raise


class _Handshake:
    def __init__(self, wire: Wire, export: str, deadline: Deadline) -> None:
        self._wire = wire
        self._export = export
        self._name = export.encode()
        if len(self._name) > proto.MAX_STRING:
            raise ValueError(
                f"the name of an export has at most {proto.MAX_STRING} bytes, not {len(self._name)}"
            )
        self._deadline = deadline

    def greet(self) -> None:
        greeting = self._wire.receive(proto.GREETING.size, self._deadline)
        magic, option_magic, flags = proto.GREETING.unpack(greeting)
        if magic != proto.NBD_MAGIC:
            raise self._broken("an NBD server's greeting", f"{bytes(greeting[:8])!r}")
        if option_magic != proto.OPTION_MAGIC or not flags & proto.FLAG_FIXED_NEWSTYLE:
            raise self._broken(
                "the fixed newstyle handshake", f"{option_magic:#x} with flags {flags:#x}"
            )
        # Of these two flags the server gets back those that it has itself.
        answer = flags & (proto.FLAG_FIXED_NEWSTYLE | proto.FLAG_NO_ZEROES)
        self._wire.send(proto.CLIENT_FLAGS.pack(answer), self._deadline)

    def structured_replies(self) -> bool:
        try:
            list(self._ask(proto.Option.STRUCTURED_REPLY, b"", None))
        except errors.NBDRefused as refused:
            self._raise_if_fatal(refused)
            return False
        return True

    def allocation_context(self) -> int | None:
        """The id of ``base:allocation``, or ``None``."""
        query = b"".join(
            (
                proto.U32.pack(len(self._name)),
                self._name,
                proto.U32.pack(1),
                proto.U32.pack(len(proto.BASE_ALLOCATION)),
                proto.BASE_ALLOCATION,
            )
        )
        context = None
        try:
            for body in self._ask(proto.Option.SET_META_CONTEXT, query, proto.Rep.META_CONTEXT):
                if context is not None or body[proto.U32.size :] != proto.BASE_ALLOCATION:
                    raise self._broken(
                        f"one context, {proto.text(proto.BASE_ALLOCATION)}",
                        proto.text(body[proto.U32.size :]) or "nothing",
                    )
                (context,) = proto.U32.unpack_from(body)
        except errors.NBDRefused as refused:
            self._raise_if_fatal(refused)
            return None
        return context

    def go(self, structured: bool, context: int | None) -> proto.Export:
        """End the handshake."""
        request = b"".join(
            (
                proto.U32.pack(len(self._name)),
                self._name,
                proto.U16.pack(1),
                proto.U16.pack(proto.INFO_BLOCK_SIZE),
            )
        )
        found: proto.Export | None = None
        blocks: tuple[int, int, int] | None = None
        for body in self._ask(proto.Option.GO, request, proto.Rep.INFO):
            kind = proto.U16.unpack_from(body)[0] if len(body) >= proto.U16.size else None
            if kind == proto.INFO_EXPORT:
                size, flags = self._info(proto.INFO_EXPORT_BODY, body)
                if size > MAX_SIZE:
                    raise self._broken(f"a size of at most {MAX_SIZE}", f"{size}")
                found = proto.Export(size, flags, structured, context)
            elif kind == proto.INFO_BLOCK_SIZE:
                blocks = self._block_sizes(body)
        if found is None:
            raise self._broken("the size of the export", "the end of the handshake without it")
        if blocks is None:
            return found
        minimum, preferred, maximum = blocks
        return found._replace(
            minimum_block=minimum, preferred_block=preferred, maximum_payload=maximum
        )

    def _block_sizes(self, body: bytearray) -> tuple[int, int, int]:
        minimum, preferred, maximum = self._info(proto.INFO_BLOCK_SIZE_BODY, body)
        found = f"minimum {minimum}, preferred {preferred}, maximum {maximum}"
        if not _is_power_of_two(minimum) or minimum > proto.MAX_MINIMUM_BLOCK:
            raise self._broken("a power of two of at most 64 KiB as minimum block size", found)
        if not _is_power_of_two(preferred) or preferred < minimum:
            raise self._broken("a power of two above the minimum as preferred block size", found)
        if maximum < minimum:
            raise self._broken("a maximum payload of at least a block", found)
        payload = proto.align_down(min(maximum, proto.DEFAULT_MAXIMUM_PAYLOAD), minimum)
        return minimum, preferred, payload

    def _info(self, layout: struct.Struct, body: bytearray) -> tuple[int, ...]:
        """The numbers of one piece of information."""
        if len(body) != proto.U16.size + layout.size:
            raise self._broken(
                f"{proto.U16.size + layout.size} bytes of information", f"{len(body)}"
            )
        return layout.unpack_from(body, proto.U16.size)

    def _ask(
        self, option: proto.Option, data: bytes, kind: proto.Rep | None
    ) -> Iterator[bytearray]:
        """Send an option.

        :param kind: of the replies before the last one, if there may be any.
        :returns: their bodies.
        :raises NBDRefused: if the last one is an error.
        """
        self._wire.send(
            proto.OPTION.pack(proto.OPTION_MAGIC, option, len(data)) + data, self._deadline
        )
        for _ in range(MAX_REPLIES):
            reply, body = self._reply(option)
            if reply & proto.ERROR_REPLY:
                raise errors.NBDRefused(
                    server=self._wire.path,
                    export=self._export,
                    option=f"NBD_OPT_{option.name}",
                    reply=proto.name_of(proto.Rep, reply),
                    reason=proto.text(body) or "no reason was given",
                )
            if reply == proto.Rep.ACK:
                return
            if reply != kind:
                raise self._broken(f"replies to {option.name}", proto.name_of(proto.Rep, reply))
            yield body
        raise self._broken(f"at most {MAX_REPLIES} replies to {option.name}", "more")

    def _reply(self, asked: proto.Option) -> tuple[int, bytearray]:
        head = self._wire.receive(proto.OPTION_REPLY.size, self._deadline)
        magic, option, reply, length = proto.OPTION_REPLY.unpack(head)
        if magic != proto.OPTION_REPLY_MAGIC:
            raise self._broken("the magic number of an option reply", f"{magic:#x}")
        if option != asked:
            raise self._broken(
                f"a reply to {asked.name}", f"one to {proto.name_of(proto.Option, option)}"
            )
        if length > MAX_REPLY_LENGTH or (reply == proto.Rep.ACK and length):
            allowed = 0 if reply == proto.Rep.ACK else MAX_REPLY_LENGTH
            raise self._broken(f"at most {allowed} bytes of option reply", f"{length}")
        return reply, self._wire.receive(length, self._deadline)

    def _raise_if_fatal(self, refused: errors.NBDRefused) -> None:
        if refused.reply in {kind.name for kind in FATAL}:
            raise refused

    def _broken(self, expected: str, found: str) -> errors.NBDProtocolError:
        return errors.NBDProtocolError(server=self._wire.path, expected=expected, found=found)


def _is_power_of_two(number: int) -> bool:
    return number > 0 and not number & (number - 1)
