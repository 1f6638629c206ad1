# SPDX-License-Identifier: Apache-2.0
"""Reading from qemu-nbd and from QEMU's own export: bytes and maps against the disk itself."""

import json
import os
import random
import subprocess
import threading
import time

import pytest

from nova_snap.stream import errors, nbd
from tests.functional.stream.nbd_servers import qemu_nbd, storage_daemon

KIB = 1 << 10
MIB = 1 << 20
CLUSTER = 64 * KIB
SIZE = 32 * MIB + 3 * KIB


def qemu_img(*arguments) -> str:
    command = ["qemu-img", *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def qemu_io(disk, *commands: str) -> None:
    options = [option for command in commands for option in ("-c", command)]
    subprocess.run(["qemu-io", "-f", "qcow2", *options, disk], check=True, capture_output=True)


def flat(disk, disk_format: str, directory) -> bytes:
    """The content of a disk, as qemu-img has it."""
    copy = directory / f"{disk.name}.flat"
    qemu_img("convert", "-f", disk_format, "-O", "raw", disk, copy)
    return copy.read_bytes()


def qemu_map(disk, disk_format: str) -> list[tuple[int, int, bool]]:
    """Extents as ``qemu-img map`` has them, neighbours merged."""
    found: list[tuple[int, int, bool]] = []
    for part in json.loads(qemu_img("map", "--output=json", "-f", disk_format, disk)):
        data = not part["zero"]
        if found and found[-1][2] == data:
            offset, length, _ = found.pop()
            found.append((offset, length + part["length"], data))
        else:
            found.append((part["start"], part["length"], data))
    return found


def raw_with_holes(directory):
    disk = directory / "disk.raw"
    dice = random.Random(3)
    with disk.open("wb") as file:
        for offset in (0, 5 * MIB, 5 * MIB + CLUSTER * 2, 20 * MIB):
            file.seek(offset)
            file.write(dice.randbytes(3 * CLUSTER // 2))
        file.truncate(SIZE - SIZE % 512)
    return disk


def qcow2_with_backing(directory):
    """Data below, above, hidden by zeroes, and zeroes that are allocated."""
    base, middle, top = (directory / f"{name}.qcow2" for name in ("base", "middle", "top"))
    qemu_img("create", "-f", "qcow2", base, SIZE)
    qemu_io(base, "write -P 1 0 4M", "write -P 2 16M 4M", "write -P 0 24M 1M")
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", base, middle)
    qemu_io(middle, "write -P 3 2M 100k", "write -z 17M 1M", "write -P 4 31M 64k")
    qemu_img("create", "-f", "qcow2", "-F", "qcow2", "-b", middle, top)
    qemu_io(top, "write -P 5 1M 1k", f"write -P 6 {32 * MIB} 1k")
    return top


DISKS = {"raw": raw_with_holes, "qcow2": qcow2_with_backing}


@pytest.fixture(scope="module", params=DISKS)
def disk(request, tmp_path_factory):
    """A disk with holes, its format and its content."""
    directory = tmp_path_factory.mktemp(request.param)
    path = DISKS[request.param](directory)
    return path, request.param, flat(path, request.param, directory)


@pytest.fixture(params=["qemu-nbd", "qemu"])
def client(request, disk):
    path, disk_format, _ = disk
    if request.param == "qemu-nbd":
        with qemu_nbd(path, disk_format) as server, nbd.Client(server.path) as client:
            yield client
    else:
        with (
            storage_daemon(path, disk_format, "sda") as server,
            nbd.Client(server.path, "sda") as client,
        ):
            yield client


def read(client, ranges) -> bytes:
    return b"".join(bytes(piece) for piece in client.read(ranges))


def test_whole_disk(client, disk):
    _, _, content = disk
    assert client.read_only
    assert client.size == len(content)
    assert read(client, [(0, client.size)]) == content


def test_map_and_data(client, disk):
    """What is not read is zero, and as much is not read as qemu-img knows of."""
    path, disk_format, content = disk
    extents = client.extents()
    assert list(extents) == qemu_map(path, disk_format)
    assert len(extents) > 4
    rebuilt = bytearray(client.size)
    for extent in extents:
        if extent.data:
            rebuilt[extent.offset : extent.offset + extent.length] = read(
                client, [(extent.offset, extent.length)]
            )
    assert rebuilt == content


def test_any_ranges(client, disk):
    _, _, content = disk
    dice = random.Random(4)
    ranges = []
    for _ in range(200):
        offset = dice.randrange(len(content))
        longest = min(dice.choice([10, 5000, 3 * MIB]), len(content) - offset)
        ranges.append((offset, dice.randrange(longest + 1)))
    expected = [content[offset : offset + length] for offset, length in ranges]
    assert read(client, ranges) == b"".join(expected)


@pytest.mark.parametrize("piece_size", [4 * KIB, 100_000, 256 * KIB, 8 * MIB])
@pytest.mark.parametrize("depth", [1, 4, 16])
def test_piece_sizes_and_depths(disk, piece_size, depth):
    path, disk_format, content = disk
    with (
        qemu_nbd(path, disk_format) as server,
        nbd.Client(server.path, piece_size=piece_size, depth=depth) as client,
    ):
        start, length = 5 * MIB - 100, 3 * MIB
        assert read(client, [(start, length)]) == content[start : start + length]


def test_again_on_the_same_connection(disk):
    """qemu-nbd ends with its only client: what begins again must not have left."""
    path, disk_format, content = disk
    with qemu_nbd(path, disk_format, once=True) as server:
        with nbd.Client(server.path) as client:
            for stop in (0, 1, 7):
                pieces = client.read([(0, client.size)])
                for _ in range(stop):
                    next(pieces)
                pieces.close()
            assert read(client, [(0, client.size)]) == content
            assert server.running
        assert server.wait() == 0


def test_no_such_export(disk):
    path, disk_format, _ = disk
    with storage_daemon(path, disk_format, "sda") as server:
        with (
            pytest.raises(errors.NBDRefused, match=r"for export 'sdb' with ERR_UNKNOWN"),
            nbd.Client(server.path, "sdb"),
        ):
            pass
        with nbd.Client(server.path, "sda") as client:
            assert client.size


def test_forty_thousand_extents(tmp_path):
    count = 40_000
    block = 4 * KIB
    path = tmp_path / "fragmented.raw"
    with path.open("wb") as file:
        for number in range(0, count, 2):
            os.pwrite(file.fileno(), b"x", number * block)
        file.truncate(count * block)
    with qemu_nbd(path, "raw") as server, nbd.Client(server.path) as client:
        started = time.monotonic()
        extents = client.extents()
        assert time.monotonic() - started < 2
        assert list(extents) == [(n * block, block, n % 2 == 0) for n in range(count)]
    # Cheap now; once its blocks are on the disk, it is not.
    path.unlink()


def test_sparse_terabyte(tmp_path):
    path = tmp_path / "sparse.qcow2"
    size = 1 << 40
    qemu_img("create", "-f", "qcow2", path, size)
    qemu_io(path, f"write -P 7 {size // 2} 64k")
    with qemu_nbd(path, "qcow2") as server, nbd.Client(server.path) as client:
        started = time.monotonic()
        extents = client.extents()
        assert time.monotonic() - started < 2
        assert list(extents) == [
            (0, size // 2, False),
            (size // 2, CLUSTER, True),
            (size // 2 + CLUSTER, size // 2 - CLUSTER, False),
        ]
        assert read(client, [(size // 2 - 1, CLUSTER + 2)]) == b"\0" + b"\7" * CLUSTER + b"\0"


def test_bad_sector(tmp_path):
    """The error comes in its turn, says where, and the rest of the disk can be read."""
    path = tmp_path / "disk.raw"
    content = random.Random(5).randbytes(4 * MIB)
    path.write_bytes(content)
    bad = 3 * MIB - 512
    with (
        storage_daemon(path, "raw", "sda", bad_sector=bad // 512) as server,
        nbd.Client(server.path, "sda", piece_size=MIB) as client,
    ):
        got = []
        with pytest.raises(errors.NBDServerError, match="EIO") as caught:
            got.extend(bytes(piece) for piece in client.read([(0, client.size)]))
        assert b"".join(got) == content[: 2 * MIB]
        assert (caught.value.offset, caught.value.length) == (2 * MIB, MIB)
        assert caught.value.for_user() == f"The disk could not be read: EIO at offset {2 * MIB}."
        ranges = [(0, bad), (bad + 512, 4 * MIB - bad - 512)]
        assert read(client, ranges) == content[:bad] + content[bad + 512 :]


def test_killed_midway(disk):
    path, disk_format, _ = disk
    with qemu_nbd(path, disk_format) as server, nbd.Client(server.path) as client:
        pieces = client.read([(0, client.size)])
        next(pieces)
        server.kill()
        with pytest.raises(errors.NBDDisconnected, match="ended during"):
            list(pieces)
        with pytest.raises(errors.NBDDisconnected):
            client.extents()


def test_stalled(disk):
    path, disk_format, _ = disk
    with qemu_nbd(path, disk_format) as server, nbd.Client(server.path, timeout=0.5) as client:
        pieces = client.read([(0, client.size)])
        next(pieces)
        server.pause()
        started = time.monotonic()
        with pytest.raises(errors.NBDTimeout, match=r"Waited 0\.5 s"):
            list(pieces)
        assert time.monotonic() - started < 3


def test_closed_while_stalled(disk):
    """Cancelling does not wait for the server."""
    path, disk_format, _ = disk
    with qemu_nbd(path, disk_format) as server:
        client = nbd.Client(server.path, timeout=60)
        client.connect()
        pieces = client.read([(0, client.size)])
        next(pieces)
        server.pause()
        closed_at = []

        def close() -> None:
            time.sleep(0.2)
            closed_at.append(time.monotonic())
            client.close()

        closer = threading.Thread(target=close)
        closer.start()
        with pytest.raises(errors.NBDClosed):
            list(pieces)
        ended = time.monotonic()
        closer.join(10)
        assert ended - closed_at[0] < 1
