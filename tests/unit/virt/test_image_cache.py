# SPDX-License-Identifier: Apache-2.0
"""Images on this host: named, downloaded once, looked at, and removed when nobody needs them."""

import errno
import hashlib
import os
import pathlib
import subprocess
import threading
import time
import uuid

import pytest

from nova_snap import exception
from nova_snap.virt.libvirt import file_lock, image_cache
from nova_snap.virt.libvirt.image_cache import ImageCache
from nova_snap.virt.libvirt.instance_files import InstanceFiles
from nova_snap.virt.libvirt.qemu_img import QemuImg

DATA = b"disk" * 100_000
IMAGE = "9e3d1b8c-9a70-4c0e-9d3f-5d2f6a1e0001"
RECORD = {
    "status": "active",
    "disk_format": "raw",
    "container_format": "bare",
    "size": len(DATA),
}


class Images:
    """An image service with one image. :ivar during: called in the middle of a download."""

    def __init__(self):
        self.data = DATA
        self.downloads = 0
        self.during = lambda: None

    def download(self, context, image_id, target, check):
        self.downloads += 1
        target.write(self.data[: len(self.data) // 2])
        target.flush()
        self.during()
        check()
        target.write(self.data[len(self.data) // 2 :])
        return len(self.data)


def nothing():
    pass


class Scene:
    def __init__(self, conf, context, directory):
        conf.set_override("instances_path", str(directory / "instances"))
        self.conf, self.context = conf, context
        self.images = Images()
        self.files = InstanceFiles(conf)
        self.cache = ImageCache(conf, self.images, self.files)

    def get(self, image_id=IMAGE, record=RECORD, root_gb=0, check=nothing):
        return self.cache.get(self.context, image_id, record, root_gb, check)

    def names(self):
        return sorted(os.listdir(self.files.base))

    def make_disk(self, image):
        """A disk that is made from an image."""
        directory = self.files.make_directory(str(uuid.uuid4()))
        subprocess.run(
            ["qemu-img", "create", "-q", "-f", "qcow2", "-F", image.format, "-b", image.path,
             os.path.join(directory, "disk")],
            check=True,
        )  # fmt: skip

    def age(self, path, seconds):
        then = time.time() - seconds
        os.utime(path, (then, then))


@pytest.fixture
def scene(conf, context, tmp_path):
    return Scene(conf, context, tmp_path)


def test_name_is_novas():
    known = hashlib.sha1(IMAGE.encode(), usedforsecurity=False).hexdigest()
    assert image_cache.file_name(IMAGE) == known
    assert image_cache.file_name(IMAGE) != image_cache.file_name(IMAGE + "x")


def test_it_is_downloaded_once(scene):
    first = scene.get()
    second = scene.get()
    assert first == second
    assert (first.format, first.virtual_size) == ("raw", len(DATA))
    assert pathlib.Path(first.path).read_bytes() == DATA
    assert scene.images.downloads == 1
    assert scene.names() == [image_cache.file_name(IMAGE)]


def test_two_at_a_time_download_once(scene):
    began, go_on = threading.Event(), threading.Event()

    def during():
        began.set()
        assert go_on.wait(30)

    scene.images.during = during
    found = []
    first = threading.Thread(target=lambda: found.append(scene.get()))
    first.start()
    assert began.wait(30)
    waits = threading.Event()
    second = threading.Thread(target=lambda: found.append(scene.get(check=waits.set)))
    second.start()
    assert waits.wait(30)
    # Under its name is only what is complete.
    assert scene.names() == [image_cache.file_name(IMAGE) + ".part"]
    go_on.set()
    first.join(30)
    second.join(30)
    assert not first.is_alive()
    assert not second.is_alive()
    assert found[0] == found[1]
    assert scene.images.downloads == 1


def test_who_waits_can_be_stopped(scene):
    class Stop(Exception):
        pass

    def stop():
        raise Stop

    scene.files.prepare()
    with (
        file_lock.hold(
            os.path.join(scene.files.locks, image_cache.file_name(IMAGE)), "it", 5, nothing
        ),
        pytest.raises(Stop),
    ):
        scene.get(check=stop)


def test_the_wait_has_a_bound(scene):
    scene.conf.set_override("image_download_timeout", 1, "libvirt")
    scene.files.prepare()
    lock = os.path.join(scene.files.locks, image_cache.file_name(IMAGE))
    with (
        file_lock.hold(lock, "it", 5, nothing),
        pytest.raises(exception.WaitTimeout, match=IMAGE),
    ):
        scene.get()


def test_the_download_has_a_bound(scene):
    scene.conf.set_override("image_download_timeout", 1, "libvirt")
    scene.images.during = lambda: time.sleep(1.1)
    with pytest.raises(exception.WaitTimeout, match=IMAGE):
        scene.get()
    assert scene.names() == []


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (exception.ImageNotFound(image_id=IMAGE), exception.ImageNotFound),
        (OSError(errno.ENOSPC, "full"), exception.HostDiskFull),
        (OSError(errno.EIO, "broken"), OSError),
    ],
)
def test_broken_download_leaves_nothing(scene, error, seen):
    def fail():
        raise error

    scene.images.during = fail
    with pytest.raises(seen):
        scene.get()
    assert scene.names() == []


def test_hostile_image_never_gets_its_name(scene):
    scene.images.data = b"QFI\xfb" + bytes(1000)
    with pytest.raises(exception.ImageUnacceptable, match="its data are qcow2"):
        scene.get()
    assert scene.names() == []


def test_cached_image_is_looked_at_for_each_instance(scene):
    path = scene.get().path
    with pytest.raises(exception.ImageUnacceptable, match="its data are raw"):
        scene.get(record={**RECORD, "disk_format": "qcow2"})
    os.truncate(path, (1 << 30) + 1)
    with pytest.raises(exception.ImageUnacceptable, match="disk of 1 GiB"):
        scene.get(root_gb=1)


def test_no_room(scene):
    with pytest.raises(exception.HostDiskFull):
        scene.get(record={**RECORD, "size": 1 << 60})
    assert scene.images.downloads == 0


# -- what nobody needs any more ----------------------------------------------------------------

OLD = 3 * 86400


def test_only_what_is_old_and_unused_is_removed(scene):
    used, unused, young = (scene.get(image_id=str(uuid.uuid4())) for _ in range(3))
    scene.make_disk(used)
    scene.age(used.path, OLD)
    scene.age(unused.path, OLD)
    scene.cache.remove_unused()
    assert scene.names() == sorted(map(os.path.basename, (used.path, young.path)))


def test_nothing_is_removed_when_it_is_not_wanted(scene):
    scene.conf.set_override("remove_unused_base_images", False)
    scene.age(scene.get().path, OLD)
    scene.cache.remove_unused()
    assert len(scene.names()) == 1


def test_nothing_is_removed_when_a_disk_cannot_be_read(scene):
    image = scene.get()
    scene.age(image.path, OLD)
    directory = scene.files.make_directory(str(uuid.uuid4()))
    with open(os.path.join(directory, "disk"), "w") as file:
        file.write("no disk")
    scene.cache.remove_unused()
    assert os.path.exists(image.path)


def test_image_that_is_being_used_is_not_removed(scene):
    image = scene.get()
    scene.age(image.path, OLD)
    lock = os.path.join(scene.files.locks, image_cache.file_name(IMAGE))
    with file_lock.hold(lock, "it", 5, nothing):
        scene.cache.remove_unused()
    assert os.path.exists(image.path)


def test_to_use_an_image_makes_it_young(scene):
    scene.age(scene.get().path, OLD)
    image = scene.get()
    scene.cache.remove_unused()
    assert os.path.exists(image.path)


def test_broken_download_of_a_dead_process_is_removed(scene):
    scene.files.prepare()
    part = os.path.join(scene.files.base, image_cache.file_name(IMAGE) + ".part")
    open(part, "w").close()
    scene.cache.remove_unused()
    assert scene.names() == []


def test_no_cache_yet(scene):
    scene.cache.remove_unused()


# -- files of instances ------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../etc", "_base", "", "3f1c8c1e5e0b4b2a9a440d8f2f9f8c11"])
def test_only_a_uuid_has_a_directory(scene, name):
    with pytest.raises(ValueError, match=r"uuid|badly formed"):
        scene.files.remove(name)


def test_hypervisors_can_get_to_the_disks_whatever_the_umask(scene):
    before = os.umask(0o077)
    try:
        image = scene.get()
        directory = scene.files.make_directory(str(uuid.uuid4()))
    finally:
        os.umask(before)
    for path in (scene.files.root, scene.files.base, directory):
        assert os.stat(path).st_mode & 0o777 == 0o755
    assert os.stat(image.path).st_mode & 0o777 == 0o644


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_nobody_else_reads_a_disk_whatever_the_umask(scene, umask):
    scene.files.prepare()
    instance = str(uuid.uuid4())
    group = os.getgid() if os.geteuid() else 12345
    before = os.umask(umask)
    try:
        scene.files.make_directory(instance)
        path = scene.files.make_disk(instance, group)
        QemuImg(scene.conf).create_overlay(path, [], 1 << 20)
    finally:
        os.umask(before)
    status = os.stat(path)
    assert (status.st_mode & 0o777, status.st_gid) == (0o640, group)
    with pytest.raises(FileExistsError):
        scene.files.make_disk(instance, group)


def test_what_an_earlier_try_left_is_removed(scene):
    scene.files.prepare()
    instance = str(uuid.uuid4())
    directory = scene.files.make_directory(instance)
    open(os.path.join(directory, "disk"), "w").close()
    assert os.listdir(scene.files.make_directory(instance)) == []
    assert scene.files.remove(instance)
    assert not scene.files.remove(instance)
