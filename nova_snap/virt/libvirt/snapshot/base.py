# SPDX-License-Identifier: Apache-2.0
"""What the driver asks of a snapshot method, and what it gets."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from nova_snap.virt.driver import ImageData, NoMonitor, SnapshotMonitor
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import domain_xml, imagebackend
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.snapshot.workdir import WorkDir
from nova_snap.virt.libvirt.watched_file import WatchedFile


@dataclasses.dataclass(frozen=True)
class ImageRequest:
    """One image to make.

    :ivar disk: the disk to take.
    :ivar backend: reads that disk when no guest has it open.
    :ivar image_format: format of the file to make.
    :ivar monitor: is told of this image's progress, and stops the snapshot.
    """

    disk: domain_xml.Disk
    backend: imagebackend.ImageBackend
    image_format: str
    monitor: SnapshotMonitor = dataclasses.field(default_factory=NoMonitor)


@dataclasses.dataclass(frozen=True)
class Request:
    """One snapshot to take: all of its images are of one instant.

    :ivar domain: the guest's XML when the snapshot began.
    :ivar power_state: of the guest then; it has to have the same when the method returns.
    :ivar images: of the root disk, and then of the others that are wanted.
    :ivar quiesce: freeze the guest's file systems for the point in time, if the method can.
    :ivar quiesce_required: fail rather than go on without.
    :ivar begin: to be called once, when the method begins to take the disks' content. It raises
        if the snapshot is not wanted any more.
    :ivar monitor: stops the snapshot; the progress is for the monitors of the images.
    :ivar warn: is told, in words for the user, what is not as it was although the snapshot goes on.
    """

    guest: Guest
    domain: domain_xml.Domain
    power_state: int
    images: Sequence[ImageRequest]
    workdir: WorkDir
    begin: Callable[[], None]
    quiesce: bool = False
    quiesce_required: bool = False
    monitor: SnapshotMonitor = dataclasses.field(default_factory=NoMonitor)
    warn: Callable[[str], None] = lambda _: None

    @property
    def root(self) -> ImageRequest:
        """The image of the root disk: the only one, for a method that takes no more."""
        return self.images[0]


@dataclasses.dataclass(frozen=True)
class Content:
    """The bytes of an image, which may be read more than once while the point in time is kept.

    :ivar size: how many there are; ``None`` where only the end of the data tells.
    :ivar disk_size: bytes that the guest sees of the disk; 0 if nobody has found out.
    """

    data: ImageData
    size: int | None
    disk_size: int = 0


@dataclasses.dataclass(frozen=True)
class Location:
    """An image whose bytes are in a store of the image service already.

    :ivar url: as the image service writes it.
    :ivar disk_size: bytes that the guest sees of the disk.
    """

    url: str
    disk_size: int


@dataclasses.dataclass(frozen=True)
class Point:
    """The disks as of one instant, to be read as long as it is kept.

    :ivar contents: one for each image of the request, in the same order; read one at a time.
    :ivar quiesced: the guest's file systems were frozen at that instant.
    :ivar temp_bytes: tells how many bytes of temporary files there are, or were, on the host.
    """

    contents: Sequence[Content | Location]
    quiesced: bool = False
    temp_bytes: Callable[[], int] = lambda: 0


class SnapshotMethod(Protocol):
    """A way to get a guest's disks into images."""

    def open(self, request: Request) -> contextlib.AbstractContextManager[Point]:
        """Leave the guest as it was found, at the latest when the point is closed, whatever
        happens; temporary files may stay in the request's directory.

        :raises nova_snap.exception.NovaSnapError:
        """


@contextlib.contextmanager
def files(paths: Sequence[str], request: Request, quiesced: bool = False) -> Iterator[Point]:
    """What was taken, as files that are finished: one for each image of the request."""
    with contextlib.ExitStack() as stack:
        contents, blocks = [], 0
        for path, image in zip(paths, request.images, strict=True):
            file = stack.enter_context(open(path, "rb"))
            status = os.fstat(file.fileno())
            blocks += status.st_blocks
            watched = WatchedFile(file, status.st_size, image.monitor)
            # The root disk's image has its record already, with a size of its own.
            further = image is not request.root
            disk_size = chains.read(image.disk)[0].virtual_size if further else 0
            contents.append(Content(watched, status.st_size, disk_size))
        yield Point(contents, quiesced=quiesced, temp_bytes=lambda: blocks * 512)


def extract_all(request: Request) -> Sequence[str]:
    """Write every disk into a flat file, none of which any guest may have open.

    :returns: the files, one for each image.
    :raises nova_snap.exception.QemuImgFailed:
    :raises nova_snap.exception.UnsafeDisk:
    """
    paths = []
    for image in request.images:
        path = request.workdir.new_file(f"image-{image.disk.target}")
        image.backend.snapshot_extract(path, image.image_format, request.monitor.on_cancel)
        paths.append(path)
    return paths
