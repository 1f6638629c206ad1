# SPDX-License-Identifier: Apache-2.0
"""The NBD handshake against servers that can more, less, or nothing of it."""

import struct

import pytest

from nova_snap.stream import errors, nbd
from tests.unit.stream import nbd_peer
from tests.unit.stream.nbd_peer import Peer, serving

KIB = 1024


def connect(script, **kwargs):
    """What the handshake with such a server finds out."""
    kwargs.setdefault("timeout", 5)
    with serving(script) as server, nbd.Client(server.path, **kwargs) as client:
        return client.export


def refused(script, kind, **kwargs):
    with serving(script) as server:
        with pytest.raises(kind) as caught:
            nbd.Client(server.path, timeout=5, **kwargs).connect()
        assert caught.value.server == server.path
        return caught.value, server.peer


def test_all_that_a_server_can():
    export = connect(lambda peer: peer.handshake(12345, blocks=(512, 4096, 1 << 20)))
    assert export == (12345, 0x103, True, nbd_peer.CONTEXT, 512, 4096, 1 << 20)


def test_defaults_where_the_server_names_no_block_sizes():
    export = connect(lambda peer: peer.handshake(1))
    assert export[-3:] == (1, 4096, 32 << 20)


def test_options_in_their_order():
    with (
        serving(lambda peer: peer.handshake(1)) as server,
        nbd.Client(server.path, "disk-vda", timeout=5),
    ):
        name = struct.pack(">I", 8) + b"disk-vda"
        query = struct.pack(">II", 1, 15) + b"base:allocation"
        assert server.peer.options == [
            (nbd_peer.OPT_STRUCTURED, b""),
            (nbd_peer.OPT_META, name + query),
            (nbd_peer.OPT_GO, name + struct.pack(">HH", 1, 3)),
        ]


@pytest.mark.parametrize("flags", [1, 3, 0xFFFF])
def test_only_flags_that_the_server_has_are_sent_back(flags):
    answers = []
    script = lambda peer: answers.append(peer.greet(flags))  # noqa: E731
    refused(script, errors.NBDDisconnected)
    assert answers == [flags & 3]


def test_without_structured_replies():
    """Neither is a map asked for, which needs them."""
    with (
        serving(lambda peer: peer.handshake(1, structured=False)) as server,
        nbd.Client(server.path, timeout=5) as client,
    ):
        assert not client.export.structured
        assert client.export.context is None
        asked = [option for option, _ in server.peer.options]
        assert asked == [nbd_peer.OPT_STRUCTURED, nbd_peer.OPT_GO]


def test_without_a_context():
    export = connect(lambda peer: peer.handshake(1, context=False))
    assert export.structured
    assert export.context is None


def test_map_refused():
    """The export decides, not the map."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.reply(peer.option()[0], nbd_peer.REP_ACK)
        peer.reply(peer.option()[0], nbd_peer.REP_POLICY)
        option = peer.option()[0]
        peer.reply(option, nbd_peer.REP_INFO, nbd_peer.export_info(4096))
        peer.reply(option, nbd_peer.REP_ACK)

    export = connect(script)
    assert (export.size, export.context) == (4096, None)


def test_unknown_information_is_passed_over():
    def script(peer: Peer) -> None:
        peer.greet()
        for _ in range(2):
            peer.reply(peer.option()[0], nbd_peer.REP_UNSUP)
            if peer.option()[0] == nbd_peer.OPT_GO:
                break
        go = nbd_peer.OPT_GO
        peer.reply(go, nbd_peer.REP_INFO, struct.pack(">H", 1) + b"a name")
        peer.reply(go, nbd_peer.REP_INFO, nbd_peer.export_info(7))
        peer.reply(go, nbd_peer.REP_INFO, struct.pack(">H", 99))
        peer.reply(go, nbd_peer.REP_ACK)

    assert connect(script).size == 7


def test_no_such_export():
    def script(peer: Peer) -> None:
        peer.greet()
        peer.reply(peer.option()[0], nbd_peer.REP_ACK)
        peer.reply(peer.option()[0], nbd_peer.REP_UNKNOWN)
        peer.reply(peer.option()[0], nbd_peer.REP_UNKNOWN, b"no export\n'vdb'")
        assert peer.option() == (nbd_peer.OPT_ABORT, b"")

    error, _ = refused(script, errors.NBDRefused, export="vdb")
    assert str(error).endswith(
        "refused NBD_OPT_GO for export 'vdb' with ERR_UNKNOWN: no export?'vdb'"
    )
    assert error.server not in error.for_user()


@pytest.mark.parametrize("kind", [nbd_peer.REP_TLS, nbd_peer.REP_SHUTDOWN])
def test_no_use_to_go_on(kind):
    def script(peer: Peer) -> None:
        peer.greet()
        peer.reply(peer.option()[0], kind)
        assert peer.option() == (nbd_peer.OPT_ABORT, b"")

    refused(script, errors.NBDRefused)


def go(*infos: bytes, ack: bytes = b""):
    """A server that only offers this to NBD_OPT_GO."""

    def script(peer: Peer) -> None:
        peer.greet()
        peer.reply(peer.option()[0], nbd_peer.REP_UNSUP)
        option = peer.option()[0]
        for info in infos:
            peer.reply(option, nbd_peer.REP_INFO, info)
        peer.reply(option, nbd_peer.REP_ACK, ack)
        peer.hang()

    return script


def blocks(*sizes: int):
    return go(nbd_peer.export_info(1 << 20), struct.pack(">HIII", 3, *sizes))


def says(data: bytes):
    def script(peer: Peer) -> None:
        peer.send(data)
        peer.hang()

    return script


def first_reply(data: bytes):
    def script(peer: Peer) -> None:
        peer.greet()
        peer.option()
        peer.send(data)
        peer.hang()

    return script


def meta(*bodies: bytes):
    def script(peer: Peer) -> None:
        peer.greet()
        peer.reply(peer.option()[0], nbd_peer.REP_ACK)
        option = peer.option()[0]
        for body in bodies:
            peer.reply(option, nbd_peer.REP_META, body)
        peer.reply(option, nbd_peer.REP_ACK)
        peer.hang()

    return script


MAGIC = struct.pack(">Q", 0x3E889045565A9)

VIOLATIONS = {
    "not-nbd": (says(b"HTTP/1.1 400 Bad Request\r\n"), "an NBD server's greeting"),
    "oldstyle": (says(b"NBDMAGIC" + bytes.fromhex("0000420281861253") + bytes(140)), "newstyle"),
    "not-fixed": (says(b"NBDMAGIC" + b"IHAVEOPT" + b"\0\2"), "fixed newstyle"),
    "reply-magic": (first_reply(bytes(20)), "magic number of an option reply"),
    "reply-to-other": (
        first_reply(MAGIC + struct.pack(">III", nbd_peer.OPT_GO, 1, 0)),
        "found one to GO",
    ),
    "reply-of-other-kind": (
        first_reply(MAGIC + struct.pack(">III", nbd_peer.OPT_STRUCTURED, 3, 0)),
        "found INFO",
    ),
    "reply-too-long": (
        first_reply(MAGIC + struct.pack(">III", nbd_peer.OPT_STRUCTURED, 0x80000001, 1 << 31)),
        "found 2147483648",
    ),
    "ack-with-body": (go(nbd_peer.export_info(1), ack=b"x"), "at most 0 bytes"),
    "no-size": (go(), "the size of the export"),
    "short-info": (go(b"\0"), "the size of the export"),
    "short-export-info": (go(nbd_peer.export_info(1)[:-1]), "12 bytes of information, found 11"),
    "long-export-info": (go(nbd_peer.export_info(1) + b"x"), "12 bytes of information, found 13"),
    "negative-size": (go(nbd_peer.export_info(1 << 63)), "a size of at most"),
    "endless-information": (go(*[nbd_peer.export_info(1)] * 65), "at most 64 replies"),
    "short-block-info": (go(struct.pack(">HII", 3, 1, 1)), "14 bytes"),
    "minimum-zero": (blocks(0, 4096, 1 << 20), "minimum 0"),
    "minimum-odd": (blocks(513, 4096, 1 << 20), "minimum 513"),
    "minimum-huge": (blocks(1 << 17, 1 << 17, 1 << 20), "minimum 131072"),
    "preferred-odd": (blocks(1, 1000, 1 << 20), "preferred 1000"),
    "preferred-below-minimum": (blocks(4096, 512, 1 << 20), "preferred 512"),
    "maximum-below-minimum": (blocks(4096, 4096, 512), "maximum 512"),
    "other-context": (meta(bytes(4) + b"qemu:dirty-bitmap:b"), "found qemu:dirty-bitmap:b"),
    "two-contexts": (meta(*[bytes(4) + b"base:allocation"] * 2), "one context"),
    "short-context": (meta(b"\0\0"), "found nothing"),
}


@pytest.mark.parametrize("name", VIOLATIONS)
def test_violation(name):
    script, words = VIOLATIONS[name]
    error, _ = refused(script, errors.NBDProtocolError)
    assert words in str(error)


@pytest.mark.parametrize("length", [0, 1, 17, 18, 19, 38])
def test_disconnected(length):
    """After the greeting, or in the middle of it, or of a reply."""
    conversation = b"NBDMAGIC" + b"IHAVEOPT" + b"\0\3" + MAGIC + struct.pack(">III", 8, 1, 0)
    error, _ = refused(lambda peer: peer.send(conversation[:length]), errors.NBDDisconnected)
    assert error.what == "the handshake"
    assert not isinstance(error, errors.NBDClosed)


def test_nobody_listens(tmp_path):
    with pytest.raises(errors.NBDConnectFailed, match="No such file"):
        nbd.Client(str(tmp_path / "none")).connect()


def test_path_too_long(tmp_path):
    with pytest.raises(errors.NBDConnectFailed, match="too long"):
        nbd.Client(str(tmp_path / ("x" * 200))).connect()


@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"piece_size": 0}, {"depth": 0}, {"depth": 65}])
def test_arguments(wrong):
    with pytest.raises(ValueError, match="must be above 0"):
        nbd.Client("/nowhere", **wrong)


def test_export_name_too_long():
    with (
        serving(Peer.hang) as server,
        pytest.raises(ValueError, match="at most 4096 bytes, not 4097"),
    ):
        nbd.Client(server.path, "x" * 4097).connect()


def test_connected_already():
    with (
        serving(lambda peer: peer.handshake(1)) as server,
        nbd.Client(server.path, timeout=5) as client,
        pytest.raises(RuntimeError, match="connected already"),
    ):
        client.connect()


def test_before_the_handshake():
    with pytest.raises(errors.NBDDisconnected, match="before the handshake"):
        _ = nbd.Client("/nowhere").size
