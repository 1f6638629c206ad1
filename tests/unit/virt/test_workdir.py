# SPDX-License-Identifier: Apache-2.0
"""Directories of snapshots: who may see them, who they belong to, what stays of them."""

import contextlib
import errno
import json
import os
import pathlib
import shutil
import stat

import pytest

from nova_snap.virt.libvirt.snapshot import workdir
from tests.fixtures import logs

UUID = "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"
OTHER = "5a1d7a7e-0a44-44a8-8f2f-7f0c8f1f0001"
HOST = "kvm-1"


@pytest.fixture
def parent(tmp_path):
    return str(tmp_path / "state" / "snapshots")


def die(made: workdir.WorkDir) -> None:
    """What the end of the process does: the lock is gone, the directory is not."""
    os.close(made._lock)


def found(parent, *arguments):
    directories = list(workdir.abandoned(parent, HOST, *arguments))
    for directory in directories:
        os.close(directory._lock)
    return [directory.path for directory in directories]


def test_others_may_pass_through_and_no_more(parent):
    made = workdir.create(parent, UUID, HOST)
    assert os.stat(parent).st_mode & 0o777 == 0o711
    assert os.stat(made.path).st_mode & 0o777 == 0o711
    assert os.stat(made.new_file("delta")).st_mode & 0o777 == 0o600
    assert os.stat(made.file("journal.json")).st_mode & 0o777 == 0o600
    made.close()


def test_whose_they_are(parent):
    assert workdir.instances(parent) == []
    die(workdir.create(parent, UUID, HOST))
    made = [workdir.create(parent, uuid, HOST) for uuid in (OTHER, UUID)]
    os.mkdir(os.path.join(parent, "somebody-elses"))
    assert workdir.instances(parent) == [UUID, OTHER]
    for each in made:
        each.close()
    assert workdir.instances(parent) == [UUID]


@pytest.mark.parametrize("umask", [0, 0o022, 0o077])
def test_modes_do_not_depend_on_the_umask(tmp_path, umask):
    """Nobody else reads the data, and the hypervisor gets through to what it is given."""
    before = os.umask(umask)
    try:
        made = workdir.create(str(tmp_path / "state" / "snapshots"), UUID, HOST)
        made.new_file("delta")
        made.note(domain="d")
    finally:
        os.umask(before)
    modes = {
        str(path.relative_to(tmp_path)).replace(os.path.basename(made.path), "UUID"): stat.S_IMODE(
            path.stat().st_mode
        )
        for path in (tmp_path / "state", *(tmp_path / "state").rglob("*"))
    }
    assert modes == {
        "state": 0o711,
        "state/snapshots": 0o711,
        "state/snapshots/UUID": 0o711,
        "state/snapshots/UUID/delta": 0o600,
        "state/snapshots/UUID/journal.json": 0o600,
        "state/snapshots/UUID/lock": 0o600,
    }
    made.close()


def test_close_removes_everything(parent):
    made = workdir.create(parent, UUID, HOST)
    made.new_file("delta")
    made.close()
    assert os.listdir(parent) == []


def test_file_is_never_one_that_was_there(parent):
    made = workdir.create(parent, UUID, HOST)
    os.symlink("/etc/passwd", made.file("image"))
    with pytest.raises(FileExistsError):
        made.new_file("image")
    made.close()


@pytest.mark.parametrize(
    "fact", [{"saving": True}, {"frozen": True}, {"undefined_xml": "<x/>"}, {"detached": [["a"]]}]
)
def test_what_is_still_to_be_put_right_is_kept(parent, fact):
    made = workdir.create(parent, UUID, HOST)
    made.new_file("delta")
    made.note(**fact)
    made.close()
    assert sorted(os.listdir(made.path)) == ["journal.json", "lock"]
    (again,) = workdir.abandoned(parent, HOST)
    assert {key: getattr(again.journal, key) for key in fact} == fact
    again.note(saving=False, frozen=False, undefined_xml=None, detached=())
    again.close()
    assert os.listdir(parent) == []


def test_live_snapshot_is_not_abandoned(parent):
    made = workdir.create(parent, UUID, HOST)
    assert found(parent) == []
    die(made)
    assert found(parent) == [made.path]


def test_only_those_of_one_instance(parent):
    one, other = workdir.create(parent, UUID, HOST), workdir.create(parent, OTHER, HOST)
    die(one)
    die(other)
    assert found(parent, UUID) == [one.path]
    assert sorted(found(parent)) == sorted([one.path, other.path])


def test_no_directory_yet(parent):
    assert found(parent) == []


@pytest.mark.parametrize(
    "journal", [None, "", "[]", '{"unknown": 1}', "{"], ids=["none", "empty", "list", "key", "cut"]
)
def test_directory_of_somebody_else_is_left_alone(parent, journal, caplog):
    path = os.path.join(parent, f"{UUID}-mine")
    os.makedirs(path)
    if journal is not None:
        with open(os.path.join(path, "journal.json"), "w") as file:
            file.write(journal)
    assert found(parent) == []
    assert "left alone" in caplog.text
    assert os.path.isdir(path)


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def test_directory_that_goes_before_it_is_read(parent, monkeypatch):
    """Services of other hosts may share the parent; its other directories are looked at."""
    gone, other = (workdir.create(parent, uuid, HOST) for uuid in (UUID, OTHER))
    die(other)
    is_directory = os.path.isdir

    def then_goes(path):
        found = is_directory(path)
        if path == gone.path and found:
            gone.close()
        return found

    monkeypatch.setattr(os.path, "isdir", then_goes)
    assert found(parent) == [other.path]


@pytest.mark.parametrize("becomes", ["gone", "another host's"])
def test_directory_that_changes_before_its_lock_is_had(parent, monkeypatch, becomes):
    path = os.path.join(parent, f"{UUID}-abcdefgh")
    os.makedirs(path)
    lock, before = workdir._lock, descriptors()

    def late(locked):
        descriptor = lock(locked)
        if becomes == "gone":
            shutil.rmtree(path)
        else:
            facts = {"instance_uuid": UUID, "host": "kvm-2", "saving": True}
            pathlib.Path(path, "journal.json").write_text(json.dumps(facts))
        return descriptor

    monkeypatch.setattr(workdir, "_lock", late)
    assert found(parent) == []
    assert descriptors() == before


def test_what_is_left_to_another_host_is_said_once(parent, caplog, monkeypatch):
    """It may be what this host was called before."""
    monkeypatch.setattr(workdir, "_told", set())
    other = "named-before"
    left = [workdir.create(parent, uuid, other) for uuid in (UUID, OTHER)]
    for each in left:
        die(each)
    for _pass in range(2):
        assert found(parent) == []
    (message,) = logs.ours(caplog)
    assert f"Snapshots of host {other} are left to its own service" in message
    assert left[0].path in message
    assert f"({HOST})" in message


def test_link_to_a_directory_is_not_followed(parent, tmp_path):
    die(workdir.create(str(tmp_path / "elsewhere"), UUID, HOST))
    os.makedirs(parent)
    (target,) = (tmp_path / "elsewhere").iterdir()
    os.symlink(target, os.path.join(parent, f"{UUID}-link"))
    assert found(parent) == []


def full(monkeypatch, made):
    def fail(self):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(workdir.WorkDir, "_write", fail)


def test_full_file_system_does_not_keep_what_is_right_again(parent, monkeypatch):
    made = workdir.create(parent, UUID, HOST)
    made.note(frozen=True)
    full(monkeypatch, made)
    made.note(frozen=False)
    assert made.journal.is_settled
    made.close()
    assert os.listdir(parent) == []


def test_nothing_is_done_to_a_guest_that_cannot_be_noted(parent, monkeypatch):
    made = workdir.create(parent, UUID, HOST)
    full(monkeypatch, made)
    with pytest.raises(OSError, match="No space"):
        made.note(frozen=True)
    monkeypatch.undo()
    made.note(frozen=False)
    made.close()


def test_journal_is_whole_at_any_time(parent):
    made = workdir.create(parent, UUID, HOST)
    made.note(domain="a", power_state=1)
    with open(made.file("journal.json")) as file:
        assert json.load(file)["domain"] == "a"
    made.close()


def test_a_journal_of_before_there_were_several_disks(parent):
    """An upgrade must not leave a qemu-nbd behind."""
    made = workdir.create(parent, UUID, HOST)
    path = made.file("journal.json")
    die(made)
    with open(path) as file:
        facts = json.load(file)
    del facts["reader_pids"]
    with open(path, "w") as file:
        json.dump({**facts, "reader_pid": 4711}, file)
    (directory,) = workdir.abandoned(parent, HOST)
    assert directory.journal.reader_pids == [4711]
    directory.close()


def test_a_journal_of_before_there_were_devices_of_the_definition(parent):
    """Nobody can tell whether the guest has let go of its devices, or will."""
    made = workdir.create(parent, UUID, HOST)
    first, both, kept = ([["pci", name, f"<{name}/>"]] for name in "abc")
    made.note(detached=[*first, *both], asked=[*both, *kept])
    die(made)
    path = pathlib.Path(made.file("journal.json"))
    facts = json.loads(path.read_text())
    del facts["defined"]
    path.write_text(json.dumps(facts))
    (directory,) = workdir.abandoned(parent, HOST)
    assert directory.journal.asked == [*both, *kept, *first]
    assert directory.journal.detached == [*first, *both]
    directory.close()


@pytest.mark.parametrize("names", [[], ["lock"], ["lock", "journal.json.new"]])
def test_process_died_before_the_first_word_of_the_journal(parent, names):
    path = os.path.join(parent, f"{UUID}-abcdefgh")
    os.makedirs(path)
    for name in names:
        open(os.path.join(path, name), "w").close()
    (directory,) = workdir.abandoned(parent, HOST)
    assert directory.journal == workdir.Journal(UUID)
    directory.close()
    assert os.listdir(parent) == []


@pytest.mark.parametrize(
    ("directory", "name"), [(f"{UUID}-backup", "disk.qcow2"), ("instance-00000001", "lock")]
)
def test_directory_without_a_journal_that_may_be_somebody_elses(parent, directory, name):
    path = os.path.join(parent, directory, name)
    os.makedirs(os.path.dirname(path))
    open(path, "w").close()
    assert found(parent) == []
    assert os.path.exists(path)


def test_no_room_for_a_new_one(parent, monkeypatch):
    """Nothing is left of it: neither a directory, nor a descriptor that keeps its lock."""

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        workdir.create(parent, UUID, HOST)
    assert os.listdir(parent) == []
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("facts", "later", "good"),
    [
        ({"reader_pids": [1, 2]}, {"reader_pids": [2]}, True),
        ({"detached": [("pci", "0", "<a/>")]}, {"detached": []}, True),
        ({"ceph": [{"a": "1"}, {"a": "2"}]}, {"ceph": [{"a": "2"}]}, True),
        ({"reader_pids": [1]}, {"reader_pids": [2]}, False),
        ({}, {"frozen": True}, False),
        ({"backup_socket": "/a"}, {"backup_socket": "/b"}, False),
    ],
)
def test_no_room_for_a_note(parent, monkeypatch, facts, later, good):
    """That there is less to be put right keeps no snapshot from ending well."""
    made = workdir.create(parent, UUID, HOST)
    made.note(**facts)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setattr(os, "fsync", full)
        if not good:
            stack.enter_context(pytest.raises(OSError, match="No space left"))
        made.note(**later)
    made.note(frozen=False, detached=(), ceph=(), backup_socket="")
    made.close()
    assert os.listdir(parent) == []


def test_process_that_dies_while_it_deletes(parent, monkeypatch):
    """The journal is the last to go: what is left is found."""
    made = workdir.create(parent, UUID, HOST)
    for name in ("a-first", "image", "scratch-vda", "z-last"):
        made.new_file(name)
    unlink, deleted = os.unlink, []

    def dies(path, **arguments):
        if len(deleted) == 2:
            raise InterruptedError
        deleted.append(path)
        unlink(path, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", dies)
        made.close()
    assert len(os.listdir(made.path)) == 4
    (again,) = workdir.abandoned(parent, HOST)
    again.close()
    assert os.listdir(parent) == []
