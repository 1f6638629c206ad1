# SPDX-License-Identifier: Apache-2.0
"""What LVM's command tells of a logical volume, and what is made of other answers."""

import json
import sys

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import lvm

PATH = "/dev/nova/3f1c8c1e_disk"


@pytest.fixture
def lvs(tmp_path):
    """Makes the command; it keeps the arguments that it is called with."""
    program, arguments = tmp_path / "lvs", tmp_path / "arguments"

    def make(body):
        program.write_text(
            f"#!{sys.executable}\nimport json, sys, time\n"
            f"open({str(arguments)!r}, 'w').write(json.dumps(sys.argv[1:]))\n{body}\n"
        )
        program.chmod(0o755)
        return str(program)

    make.arguments = lambda: json.loads(arguments.read_text())
    return make


def answer(**values):
    found = {
        "vg_name": "nova", "lv_name": "3f1c8c1e_disk", "lv_path": PATH,
        "lv_size": "21474836480", "lv_active": "active", **values,
    }  # fmt: skip
    return f"print({json.dumps({'report': [{'lv': [found]}]})!r})"


def test_found(lvs):
    volume = lvm.find(PATH, lvs(answer()))
    assert volume == lvm.LogicalVolume("nova", "3f1c8c1e_disk", PATH, 20 << 30, active=True)
    assert lvs.arguments()[-2:] == ["--", PATH]
    assert "--nosuffix" in lvs.arguments()


@pytest.mark.parametrize(("word", "active"), [("active", True), ("active exclusively", True),
                                              ("", False), ("unknown", False)])  # fmt: skip
def test_active(lvs, word, active):
    assert lvm.find(PATH, lvs(answer(lv_active=word))).active == active


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit('  Volume group \"nova\" not found')", 'Volume group "nova" not found'),
        ("sys.exit(3)", "exit code 3"),
        ("print('no JSON')", "unusable answer: JSONDecodeError"),
        ('print(\'{"report": [{"lv": []}]}\')', "unusable answer: ValueError"),
        (answer(lv_size="20g"), "unusable answer: ValueError"),
        ("time.sleep(60)", "no answer within 1 s"),
    ],
)
def test_not_found(lvs, monkeypatch, body, reason):
    monkeypatch.setattr(lvm, "SECONDS", 1)
    with pytest.raises(exception.LogicalVolumeUnavailable) as caught:
        lvm.find(PATH, lvs(body))
    assert reason in caught.value.reason
    assert caught.value.path == PATH


def test_not_installed():
    with pytest.raises(exception.LogicalVolumeUnavailable, match="No such file"):
        lvm.find(PATH, "/nonexistent/lvs")


def test_device_that_is_there_is_not_asked_for(lvs, tmp_path):
    lvm.check_device(str(tmp_path), lvs("sys.exit('asked')"))


@pytest.mark.parametrize("path", ["--config=global{x=1}", "-v", "nova/disk", "."])
def test_path_that_is_no_devices(lvs, path):
    """It would be an option of the command."""
    with pytest.raises(exception.UnsafeDisk, match="its path is not absolute"):
        lvm.check_device(path, lvs("sys.exit('asked')"))


@pytest.mark.parametrize(
    ("word", "reason"),
    [("", "lvchange --activate y nova/3f1c8c1e_disk"), ("active", "run vgmknodes")],
)
def test_device_that_is_not_there(lvs, word, reason):
    with pytest.raises(exception.LogicalVolumeUnavailable) as caught:
        lvm.check_device("/dev/nova/gone", lvs(answer(lv_active=word)))
    assert reason in caught.value.reason
    assert str(caught.value).startswith("Disk /dev/nova/gone is not there: ")
