# SPDX-License-Identifier: Apache-2.0
"""Reading from nbdkit, whose plugins and filters are what other servers may be like."""

import random
import struct
import subprocess
import time

import pytest

from nova_snap.stream import errors, nbd
from tests.functional.stream.nbd_servers import nbdkit

KIB = 1 << 10
MIB = 1 << 20
SIZE = 8 * MIB


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A file and its content."""
    path = tmp_path_factory.mktemp("nbdkit") / "disk.raw"
    content = random.Random(6).randbytes(SIZE)
    path.write_bytes(content)
    return path, content


def read(client, ranges) -> bytes:
    return b"".join(bytes(piece) for piece in client.read(ranges))


def everything(*arguments: str, **kwargs) -> tuple[nbd.ExtentMap, bytes]:
    with nbdkit(*arguments) as server, nbd.Client(server.path, **kwargs) as client:
        return client.extents(), read(client, [(0, client.size)])


def pattern(size: int) -> bytes:
    """Of nbdkit's plugin: each 8 bytes are their own offset."""
    return b"".join(struct.pack(">Q", offset) for offset in range(0, size, 8))


def test_pattern():
    extents, content = everything("pattern", "3M")
    assert content == pattern(3 * MIB)
    assert list(extents) == [(0, 3 * MIB, True)]


def test_pattern_at_the_end_of_a_large_disk():
    size = (1 << 62) + 512
    with nbdkit("pattern", str(size)) as server, nbd.Client(server.path) as client:
        assert client.size == size
        content = read(client, [(size - 16, 16)])
        assert content == struct.pack(">QQ", size - 16, size - 8)


def test_memory():
    assert everything("memory", "1M") == ([(0, MIB, False)], bytes(MIB))


def test_empty_disk():
    assert everything("null", "0") == ([], b"")


def test_odd_size():
    _, content = everything("pattern", "1000001")
    assert content == pattern(1000008)[:1000001]


def test_sparse(tmp_path):
    """A disk with holes of all sizes; nbdcopy reads the same."""
    arguments = ["sparse-random", "64M", "seed=3", "percent=20", "runlength=131072"]
    copy = tmp_path / "copy"
    with nbdkit(*arguments) as server, nbd.Client(server.path) as client:
        subprocess.run(["nbdcopy", f"nbd+unix:///?socket={server.path}", copy], check=True)
        extents = client.extents()
        rebuilt = bytearray(client.size)
        for offset, length, data in extents:
            if data:
                rebuilt[offset : offset + length] = read(client, [(offset, length)])
    assert len(extents) > 20
    assert any(rebuilt)
    assert rebuilt == copy.read_bytes()


def test_no_structured_replies():
    extents, content = everything("--no-sr", "pattern", "3M")
    assert content == pattern(3 * MIB)
    assert list(extents) == [(0, 3 * MIB, True)]


def test_no_extents():
    """nbdkit has the context then, and says that all is data."""
    extents, content = everything("--filter=noextents", "memory", "1M")
    assert list(extents) == [(0, MIB, True)]
    assert content == bytes(MIB)


@pytest.mark.parametrize("block", [512, 4096, 65536])
def test_only_whole_blocks(disk, block):
    """A server that refuses anything else."""
    path, content = disk
    policy = [
        "--filter=blocksize-policy",
        "file",
        str(path),
        "blocksize-error-policy=error",
        f"blocksize-minimum={block}",
        f"blocksize-preferred={block * 2}",
        f"blocksize-maximum={block * 4}",
    ]
    dice = random.Random(block)
    ranges = [(offset, dice.randrange(MIB // 4)) for offset in dice.sample(range(7 * MIB), 20)]
    with nbdkit(*policy) as server, nbd.Client(server.path) as client:
        assert client.export[-3:] == (block, block * 2, block * 4)
        assert list(client.extents()) == [(0, SIZE, True)]
        expected = [content[offset : offset + length] for offset, length in ranges]
        assert read(client, ranges) == b"".join(expected)


def test_extents_that_are_not_whole_blocks():
    """A map in bytes, of a server that wants to be asked in blocks of 64 KiB."""
    script = [
        "get_size=echo 1048576",
        "can_extents=exit 0",
        "extents=echo 0 1000; echo 1000 100000 hole,zero; echo 101000 947576",
        "pread=dd if=/dev/zero count=$3 iflag=count_bytes",
        "blocksize-minimum=65536",
        "blocksize-preferred=65536",
    ]
    arguments = ["--filter=blocksize-policy", "eval", *script]
    with nbdkit(*arguments) as server, nbd.Client(server.path) as client:
        extents = client.extents()
        assert client.export.minimum_block == 65536
    assert list(extents) == [(0, 1000, True), (1000, 100_000, False), (101_000, 947_576, True)]


def test_slow_replies_overlap():
    """Four in flight, so that 16 pieces of 100 ms each do not take 1.6 s."""
    arguments = ["--filter=delay", "pattern", "1M", "rdelay=100ms"]
    with nbdkit(*arguments) as server, nbd.Client(server.path, piece_size=64 * KIB) as client:
        started = time.monotonic()
        assert read(client, [(0, client.size)]) == pattern(MIB)
        assert 0.4 <= time.monotonic() - started < 1.5


def file_with(disk, *rules: str) -> list[str]:
    """A server of a file whose reads begin with these shell commands."""
    path, _ = disk
    copy = f"dd if={path} skip=$4 count=$3 iflag=skip_bytes,count_bytes bs=64K status=none"
    return [
        "eval",
        "thread_model=echo parallel",
        f"get_size=echo {SIZE}",
        f"pread={'; '.join([*rules, copy])}",
    ]


def test_replies_out_of_order(disk):
    """The first one last."""
    _, content = disk
    slow_start = "if [ $4 -eq 0 ]; then sleep 0.5; fi"
    assert everything(*file_with(disk, slow_start))[1] == content


@pytest.mark.parametrize("structured", [True, False])
def test_server_error(disk, structured):
    _, content = disk
    fails = f"if [ $4 -eq {5 * MIB} ]; then echo ENOMEM too much to ask >&2; exit 1; fi"
    options = [] if structured else ["--no-sr"]
    with (
        nbdkit(*options, *file_with(disk, fails)) as server,
        nbd.Client(server.path, piece_size=MIB) as client,
    ):
        got = []
        with pytest.raises(errors.NBDServerError, match=f"ENOMEM at offset {5 * MIB}"):
            got.extend(bytes(piece) for piece in client.read([(0, SIZE)]))
        assert b"".join(got) == content[: 5 * MIB]
        assert read(client, [(6 * MIB, MIB)]) == content[6 * MIB : 7 * MIB]


def test_errors_now_and_then(disk):
    """Begun again until it goes through, as an upload is."""
    path, content = disk
    arguments = ["--filter=error", "file", str(path), "error=EIO", "error-pread-rate=15%"]
    with nbdkit(*arguments) as server, nbd.Client(server.path) as client:
        failures = []
        found = None
        while found is None and len(failures) < 200:
            try:
                found = read(client, [(0, SIZE)])
            except errors.NBDServerError as error:
                failures.append(error.name)
        assert found == content
        assert set(failures) <= {"EIO"}


def test_map_fails(disk):
    path, _ = disk
    arguments = ["--filter=error", "file", str(path), "error=EPERM", "error-extents-rate=1"]
    with (
        nbdkit(*arguments) as server,
        nbd.Client(server.path) as client,
        pytest.raises(errors.NBDServerError, match=r"EPERM at offset 0 in a block status"),
    ):
        client.extents()


def test_tls_required(tmp_path):
    keys = tmp_path / "keys.psk"
    keys.write_text("user:" + "ab" * 32 + "\n")
    with (
        nbdkit("--tls=require", f"--tls-psk={keys}", "memory", "1M") as server,
        pytest.raises(errors.NBDRefused, match="ERR_TLS_REQD"),
        nbd.Client(server.path),
    ):
        pass


def test_one_read_hangs(disk):
    """Others are answered, this one is not."""
    hangs = f"if [ $4 -eq {2 * MIB} ]; then exec sleep 2; fi"
    with (
        nbdkit(*file_with(disk, hangs)) as server,
        nbd.Client(server.path, timeout=0.5, piece_size=MIB) as client,
        pytest.raises(errors.NBDTimeout, match=r"Waited 0\.5 s for a reply to a read"),
    ):
        read(client, [(0, SIZE)])


def test_killed_midway():
    with nbdkit("pattern", "100M") as server, nbd.Client(server.path) as client:
        pieces = client.read([(0, client.size)])
        next(pieces)
        server.kill()
        with pytest.raises(errors.NBDDisconnected):
            list(pieces)
