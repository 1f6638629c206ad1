# SPDX-License-Identifier: Apache-2.0
"""The disk of a guest that does not run is of one moment, or there is no image of it."""

import json
import os
import signal
import sys
from pathlib import Path

import libvirt
import pytest

from nova_snap import exception
from nova_snap.stream import errors
from tests.fixtures import disk_image
from tests.functional import snapshot_parts as parts
from tests.functional import stream_parts
from tests.functional.stream_parts import MIB


@pytest.fixture(scope="module")
def lab(_session_lab):
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module", params=["qcow2-deep", "raw"])
def guest(request, lab):
    made = lab.define_guest("offline", lab.make_disk(request.param, f"offline-{request.param}"))
    yield made
    made.remove()


@pytest.fixture
def world(lab, guest, tmp_path, monkeypatch):
    """Whatever the test has done, nothing reads the disk after it, and the next snapshot works."""
    with stream_parts.open_world(lab, tmp_path) as made:
        yield made
        assert readers(made) == []
    monkeypatch.undo()
    (tmp_path / "next").mkdir()
    with stream_parts.open_world(lab, tmp_path / "next") as again:
        taken = again.snapshot(guest)
    assert taken.report.method == "offline"
    assert parts.differences(taken, guest) == ""
    assert disk_image.check(taken.path, taken.format) == ""
    stream_parts.assert_sound(guest)


def readers(world):
    """Processes that serve one of the world's sockets."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes()
        except OSError:
            continue
        if f"{world.sockets}/".encode() in command:
            found.append(command)
    return found


def stand_in(directory, monkeypatch, body):
    """Something else is called qemu-nbd; it is told its socket as ``path``."""
    program = directory / "bin" / "qemu-nbd"
    program.parent.mkdir()
    program.write_text(
        f"#!{sys.executable}\n"
        "import os, socket, struct, sys, time\n"
        "path = next(a.partition('=')[2] for a in sys.argv if a.startswith('--socket='))\n"
        f"{body}\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")


NBDKIT = "os.execvp('nbdkit', ['nbdkit', '-f', '-r', '-U', path, {arguments}])"

SERVER = """
listener = socket.socket(socket.AF_UNIX)
listener.bind(path)
listener.listen()
clients = []
while True:
    client, _ = listener.accept()
    clients.append(client)
    client.sendall({greeting})
"""

FLAGS = "struct.pack('>QQH', 0x4e42444d41474943, 0x49484156454f5054, 1)"


@pytest.mark.parametrize(
    ("body", "error", "words"),
    [
        (
            NBDKIT.format(
                arguments="'--filter=error', 'pattern', '64M', 'error=EIO', 'error-pread-rate=100%'"
            ),
            errors.NBDServerError,
            "failed with EIO",
        ),
        (
            NBDKIT.format(arguments="'--filter=delay', 'pattern', '64M', 'rdelay=60'"),
            errors.NBDTimeout,
            "Waited 1 s for a reply to a read",
        ),
        (
            SERVER.format(greeting="b'HTTP/1.1 400 Bad Request\\r\\n\\r\\n'"),
            errors.NBDProtocolError,
            "broke the protocol",
        ),
        (SERVER.format(greeting=FLAGS), errors.NBDTimeout, "Waited 1 s"),
        (SERVER.format(greeting=FLAGS) + "    client.close()", errors.NBDDisconnected, "is gone"),
        ("sys.exit('Could not open the disk')", exception.QemuNbdFailed, "Could not open the disk"),
    ],
    ids=["error", "silent-read", "garbage", "silent-handshake", "hangs-up", "does-not-start"],
)
def test_server_is_bad(guest, world, public_path, monkeypatch, body, error, words):
    world.set(snapshot_read_timeout=1)
    stand_in(public_path, monkeypatch, body)
    failure = world.fails(guest)
    assert isinstance(failure.__cause__, error)
    assert words in failure.reason
    assert failure.method == "offline"


def test_server_fails_midway(guest, world, public_path, monkeypatch):
    trigger = public_path / "trigger"
    arguments = f"'--filter=error', 'pattern', '64M', 'error-rate=100%', 'error-file={trigger}'"
    stand_in(public_path, monkeypatch, NBDKIT.format(arguments=arguments))
    world.images.on_bytes = stream_parts.once(trigger.touch, taken=MIB)
    failure = world.fails(guest)
    assert isinstance(failure.__cause__, errors.NBDServerError)
    assert failure.phase == "image_uploading"


def test_server_is_killed_midway(guest, world):
    def kill():
        (journal,) = world.snapshots.glob("*/journal.json")
        os.kill(json.loads(journal.read_text())["reader_pids"][0], signal.SIGKILL)

    world.images.on_bytes = stream_parts.once(kill, taken=MIB)
    failure = world.fails(guest)
    assert isinstance(failure.__cause__, errors.NBDDisconnected)
    assert failure.phase == "image_uploading"


def test_image_service_hangs_up(guest, world):
    """The second try sends the same."""
    world.images.tries = 2

    def hang_up():
        raise stream_parts.Disconnected

    world.images.on_bytes = stream_parts.once(hang_up)
    taken = world.snapshot(guest)
    assert world.images.numbers == [1, 2]
    assert parts.differences(taken, guest) == ""


def test_guest_cannot_be_started_meanwhile(guest, world):
    """Else the image would be of two moments."""
    refused = []

    def start():
        with pytest.raises(libvirt.libvirtError, match="lock") as caught:
            guest.start(paused=True)
        refused.append(caught.value)

    world.images.on_update = start
    taken = world.snapshot(guest)
    assert refused
    assert parts.differences(taken, guest) == ""
    guest.start(paused=True)
    guest.destroy()


@pytest.mark.parametrize(
    ("image_format", "error"),
    [("qcow2", exception.QemuNbdFailed), ("vmdk", exception.QemuImgFailed)],
)
def test_guest_is_started_first(guest, world, image_format, error):
    """After the method was chosen, and before the disk is opened."""
    world.set(snapshot_image_format=image_format)
    states = parts.States()
    states.on["image_pending_upload"] = lambda: guest.start(paused=True)
    with pytest.raises(exception.SnapshotFailed) as caught:
        world.take(guest, states=states)
    assert isinstance(caught.value.__cause__, error)
    assert "lock" in caught.value.reason
    assert guest.state()["state"] == "paused"
    assert world.leftovers() == []
    guest.destroy()
