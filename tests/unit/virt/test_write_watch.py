# SPDX-License-Identifier: Apache-2.0
"""Whether something wrote to a block device, and what is withheld then."""

import io
import os
import stat

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import chain, write_watch
from nova_snap.virt.libvirt.write_watch import CheckedData, WriteWatch
from tests.fixtures.block_device import block_device

MIB = 1 << 20


@pytest.fixture
def device(tmp_path):
    backing = tmp_path / "backing"
    with backing.open("wb") as file:
        file.truncate(4 * MIB)
    with block_device(backing) as found:
        yield found


def write(device, flags=0):
    descriptor = os.open(device, os.O_WRONLY | flags)
    os.pwrite(descriptor, b"x" * 512, 4096)
    os.close(descriptor)


def test_what_is_read_only_is_not_changed(device):
    watch = WriteWatch(str(device.path))
    device.path.read_bytes()
    watch.check()


@pytest.mark.parametrize("flags", [0, os.O_SYNC], ids=["cached", "synchronous"])
def test_written_through_any_node(device, tmp_path, flags):
    watch = WriteWatch(str(device.path))
    node = device.other_node(tmp_path / "node")
    assert stat.S_ISBLK(node.stat().st_mode)
    write(node, flags)
    for _ in range(2):
        with pytest.raises(exception.DiskChanged, match=f"Disk {device.path} was written to"):
            watch.check()


def test_what_waited_to_be_written_before_does_not_count(device):
    write(device.path)
    watch = WriteWatch(str(device.path))
    watch.check()


def test_device_that_is_gone(device, tmp_path):
    link = tmp_path / "volume"
    link.symlink_to(device.path)
    watch = WriteWatch(str(link))
    link.unlink()
    with pytest.raises(exception.DiskUnwatched, match="No such file"):
        watch.check()


def test_file_is_not_counted(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"data")
    with pytest.raises(exception.DiskUnwatched):
        WriteWatch(str(path))


def test_only_a_device_is_watched(device):
    assert write_watch.watch([chain.Layer("/file", "raw", 1)]) is None
    layer = chain.Layer(str(device.path), "raw", 1, chain.HOST_DEVICE)
    assert isinstance(write_watch.watch([layer]), WriteWatch)


class Refusal(Exception):
    pass


@pytest.mark.parametrize("size", [10, None])
@pytest.mark.parametrize("at_once", [1, 4, 10, 100])
def test_the_end_is_withheld(size, at_once):
    """Whoever knows the length does not get the last bytes, and who does not is not told the
    end."""

    def refuse():
        raise Refusal

    data = CheckedData(io.BytesIO(b"0123456789"), size, refuse)
    for _ in range(2):
        taken: list[bytes] = []
        with pytest.raises(Refusal):
            read_into(taken, data, at_once)
        if size is None:
            assert b"".join(taken) == b"0123456789"
        else:
            assert len(b"".join(taken)) < size
        assert data.seek(0) == data.tell() == 0


def read_into(taken, data, at_once):
    while piece := data.read(at_once):
        taken.append(piece)


def test_all_of_it_if_nothing_is_wrong():
    checks = []
    data = CheckedData(io.BytesIO(b"0123456789"), 10, lambda: checks.append(data.tell()))
    assert data.read(4) + data.read(100) == b"0123456789"
    assert checks == [10]


class SomeGuest:
    def __init__(self):
        self.active = False
        self.asked = 0

    def is_active(self):
        self.asked += 1
        return self.active


def test_guest_that_is_started_while_its_disk_is_read():
    """It is asked for now and then, and in any case at the end."""
    guest, now = SomeGuest(), [0.0]
    watch = write_watch.StartWatch(guest, "rbd:vms/x", clock=lambda: now[0])
    data = CheckedData(io.BytesIO(b"0123456789"), 10, watch.check, watch.glance)
    for _ in range(4):
        data.read(1)
        now[0] += 0.2
    assert guest.asked == 2
    guest.active = True
    data.read(1)
    now[0] += 0.4
    with pytest.raises(exception.DiskChanged, match="Disk rbd:vms/x was written to"):
        data.read(1)


def test_guest_that_is_started_at_the_last_moment():
    guest = SomeGuest()
    watch = write_watch.StartWatch(guest, "rbd:vms/x", clock=lambda: 0.0)
    data = CheckedData(io.BytesIO(b"01"), 2, watch.check, watch.glance)
    assert data.read(1) == b"0"
    guest.active = True
    with pytest.raises(exception.DiskChanged):
        data.read(1)
