# SPDX-License-Identifier: Apache-2.0
"""A block copy of a running guest's disk, ended at the moment that the image is of.

While the copy runs, the guest's writes go to both files. When it is ended, what was written since
the guest's own backing file was made is complete in the copy, and the guest goes on with its own
disk. The temporary files are the copy, and, if the copy has a backing file, the flat image.
"""

import contextlib
import dataclasses
import os
from collections.abc import Iterator

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import qemu_img, quiesce
from nova_snap.virt.libvirt.capabilities import Capabilities
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.snapshot import copy_job
from nova_snap.virt.libvirt.snapshot.base import Point, Request, files

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class _Delta:
    """The copy. :ivar chain: the file to copy to, and the disk's own backing files below it."""

    chain: chains.Chain

    @property
    def path(self) -> str:
        return self.chain[0].path

    @property
    def is_flat(self) -> bool:
        return len(self.chain) == 1

    @property
    def format(self) -> str:
        return self.chain[0].format


class Mirror:
    """The seed of all live snapshots: for guests that run or are paused."""

    def __init__(
        self, conf: cfg.ConfigOpts, host: Host, tool: qemu_img.QemuImg, capabilities: Capabilities
    ) -> None:
        self._tool = tool
        self._directory: str = conf.libvirt.snapshots_directory
        self._compress = conf.libvirt.snapshot_compression in ("zlib", "zstd")
        self._copy_job = copy_job.CopyJob(conf, host, capabilities)
        self._quiescer = quiesce.Quiescer(conf, capabilities)

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Point]:
        """See :meth:`take`."""
        path, quiesced = self.take(request)
        with files([path], request, quiesced) as point:
            yield point

    def take(self, request: Request) -> tuple[str, bool]:
        """The finished file of the root disk, and whether the guest was frozen at its instant.

        :raises nova_snap.exception.BlockJobFailed: if the copy ends by itself.

        :raises nova_snap.exception.WaitTimeout: if the copy does not catch up in time.
        :raises nova_snap.exception.AgentError: if a required freeze failed.
        """
        copy_job.abort_stale_jobs(request.guest, request.root.disk.target, self._directory)
        request.begin()
        return self._live_snapshot(request)

    def _live_snapshot(self, request: Request) -> tuple[str, bool]:
        delta = self._create_delta(request)
        quiesced = self._copy(request, delta)
        wanted = request.root.image_format
        if delta.is_flat and delta.format == wanted and not self._compress:
            return delta.path, quiesced
        target = request.workdir.new_file("image")
        self._tool.convert(delta.chain, target, wanted, self._compress, request.monitor.on_cancel)
        os.unlink(delta.path)
        return target, quiesced

    def _create_delta(self, request: Request) -> _Delta:
        source = chains.read(request.root.disk)
        path = request.workdir.new_file("delta")
        # The guest's disk may have been resized since it was started from a shorter file.
        size = request.guest.disk_capacity(request.root.disk.target)
        image_format = self._delta_format(request, source)
        if image_format == "raw":
            self._tool.create_raw(path, size)
        else:
            self._tool.create_overlay(path, source[1:], size)
        return _Delta((chains.Layer(path, image_format, size), *source[1:]))

    def _delta_format(self, request: Request, source: chains.Chain) -> str:
        """A disk without backing files is copied whole: into the image itself, where possible."""
        if len(source) > 1:
            return "qcow2"
        if self._copy_job.must_be_transient(request.guest):
            # blockRebase has no way to say what it copies to: it takes the disk's own format.
            return source[0].format
        wanted = request.root.image_format
        return wanted if wanted in chains.SUPPORTED_FORMATS else "qcow2"

    def _copy(self, request: Request, delta: _Delta) -> bool:
        """:returns: whether the guest's file systems were frozen at the end of the copy."""
        guest, target = request.guest, request.root.disk.target
        with self._copy_job.running(guest, target, delta.chain, request.workdir):
            self._copy_job.wait_until_ready(guest, target, request.workdir, request.monitor.check)
            if not request.quiesce:
                self._pivot(request)
                return False
            note = request.workdir.note
            with self._quiescer.frozen(
                guest, request.quiesce_required, lambda frozen: note(frozen=frozen)
            ) as quiesced:
                self._pivot(request)
            return quiesced

    def _pivot(self, request: Request) -> None:
        """The point in time: the guest stays with its own disk, and the copy is complete."""
        guest, target = request.guest, request.root.disk.target
        if guest.block_job(target) is None:
            reason = "it ended just before it was used"
            raise exception.BlockJobFailed(domain=guest.name, disk=target, reason=reason)
        guest.abort_block_job(target)
        LOG.debug("The copy of disk %s of guest %s is complete", target, guest.name)
