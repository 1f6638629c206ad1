# SPDX-License-Identifier: Apache-2.0
"""The disks of a guest that does not run are read where they lie.

QEMU's own file locks keep the guest from being started meanwhile, or the disks from being read if
it was started first: the images are never of two moments. What has no lock that everybody meets is
watched instead: see :mod:`nova_snap.virt.libvirt.write_watch`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Callable, Iterator, Sequence

from oslo_config import cfg

from nova_snap.stream import nbd, pipeline
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import confinement, qemu_nbd, write_watch
from nova_snap.virt.libvirt.backup_job import Export
from nova_snap.virt.libvirt.snapshot import rbd_instant
from nova_snap.virt.libvirt.snapshot.base import (
    Content,
    ImageRequest,
    Point,
    Request,
    extract_all,
    files,
)
from nova_snap.virt.libvirt.snapshot.stream import open_content, socket_directory
from nova_snap.virt.libvirt.snapshot.workdir import WorkDir

_Watch = write_watch.WriteWatch | write_watch.FileWatch | write_watch.StartWatch


class Offline:
    """For a guest that is shut off, or suspended to disk: its saved memory is not touched."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._user = confinement.tools_user(conf)

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Point]:
        """:raises nova_snap.exception.QemuNbdFailed: also if the guest is started first.

        :raises nova_snap.exception.QemuImgFailed: the same, for formats that cannot be streamed.
        """
        request.begin()
        with rbd_instant.held(self._conf, request) as held, self._open(held) as point:
            yield point

    @contextlib.contextmanager
    def _open(self, request: Request) -> Iterator[Point]:
        if all(image.image_format in pipeline.FORMATS for image in request.images):
            with self._stream(request) as point:
                yield point
            return
        with contextlib.ExitStack() as locks:
            if len(request.images) > 1:
                # A tool that reads one disk after the other lets go of each: these keep them all.
                self._export_all(request, locks)
            container = request.domain.virt_type == "lxc"
            watch = _watch(request, request.root.backend.chain()) if container else None
            paths = extract_all(request)
            if watch is not None:
                watch.check()
            for image in request.images:
                if rbd_instant.may_change(image.disk.network):
                    write_watch.StartWatch(request.guest, image.disk.description).check()
            with files(paths, request) as point:
                locks.close()
                yield point

    @contextlib.contextmanager
    def _stream(self, request: Request) -> Iterator[Point]:
        timeout = self._conf.libvirt.snapshot_read_timeout
        with contextlib.ExitStack() as stack:
            contents = []
            for reader in self._export_all(request, stack):
                client = nbd.Client(reader.export.socket, reader.export.name, timeout=timeout)
                content = open_content(self._conf, stack, reader.image, client)
                contents.append(_checked(content, reader.watch))
            yield Point(contents)

    def _export_all(self, request: Request, stack: contextlib.ExitStack) -> Sequence[_Reader]:
        """Export every disk: they are all locked before the first of them is read."""
        owner = None if self._user is None else (self._user.uid, self._user.gid)
        directory = stack.enter_context(socket_directory(self._conf, request, owner))
        readers = _Readers(request.workdir)
        return [
            self._export(
                request, image, os.path.join(directory, str(number)), readers.of(number), stack
            )
            for number, image in enumerate(request.images)
        ]

    def _export(
        self,
        request: Request,
        image: ImageRequest,
        socket: str,
        on_start: Callable[[int], None],
        stack: contextlib.ExitStack,
    ) -> _Reader:
        chain = image.backend.chain()
        log = request.workdir.file(f"qemu-nbd-{image.disk.target}.log")
        with image.backend.keys(chain) as keys:
            export = stack.enter_context(
                qemu_nbd.export(chain, socket, log, on_start, keys, self._user)
            )
        # Nothing was read of it yet: what was written before this harms nothing.
        return _Reader(image, export, _watch(request, chain))


@dataclasses.dataclass(frozen=True)
class _Reader:
    """:ivar watch: of a disk that QEMU's lock does not protect from everybody."""

    image: ImageRequest
    export: Export
    watch: _Watch | None


def _watch(request: Request, chain: chains.Chain) -> _Watch | None:
    watch = write_watch.watch(chain)
    if rbd_instant.may_change(chain[0].network):
        return write_watch.StartWatch(request.guest, chain[0].path)
    if watch is None and request.domain.virt_type == "lxc":
        return write_watch.FileWatch(chain[0].path)
    return watch


def _checked(content: Content, watch: _Watch | None) -> Content:
    """The content, without its end if the disk was written to meanwhile."""
    if watch is None:
        return content
    glance = watch.glance if isinstance(watch, write_watch.StartWatch) else lambda: None
    data = write_watch.CheckedData(content.data, content.size, watch.check, glance)
    return dataclasses.replace(content, data=data)


class _Readers:
    """Notes the processes that read the disks: they would outlive this one."""

    def __init__(self, workdir: WorkDir) -> None:
        self._workdir = workdir
        self._pids: dict[int, int] = {}

    def of(self, number: int) -> Callable[[int], None]:
        """:param number: of the disk. :returns: what is told its reader's process id, or 0."""

        def note(pid: int) -> None:
            self._pids[number] = pid
            self._workdir.note(reader_pids=[each for each in self._pids.values() if each])

        return note
