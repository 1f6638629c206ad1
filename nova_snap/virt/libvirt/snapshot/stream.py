# SPDX-License-Identifier: Apache-2.0
"""The disks as of the moment of the request, read once and sent while the guest goes on.

A backup job offers the disks of that moment; what the guest overwrites meanwhile is kept in a
scratch file for each of them, and nothing else is written on the host.
"""

import contextlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap.stream import nbd, pipeline, qcow2
from nova_snap.stream.control import Control
from nova_snap.stream.throttle import Throttle
from nova_snap.virt.driver import SnapshotMonitor
from nova_snap.virt.libvirt import backup_job, domain_xml, qemu_img, quiesce
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt.backup_job import ScratchGuard
from nova_snap.virt.libvirt.capabilities import Capabilities
from nova_snap.virt.libvirt.snapshot import workdir
from nova_snap.virt.libvirt.snapshot.base import Content, ImageRequest, Point, Request

LOG = logging.getLogger(__name__)

# The longest path that fits into a sockaddr_un, with the zero at its end.
_MAX_SOCKET_PATH: Final = 107
_SOCKET: Final = "nbd"
_SOCKET_DIRECTORY: Final = re.compile("s[0-9a-f]{8}")


class Stream:
    """For guests that run or are paused."""

    def __init__(
        self, conf: cfg.ConfigOpts, tool: qemu_img.QemuImg, capabilities: Capabilities
    ) -> None:
        self._conf = conf
        self._tool = tool
        self._quiescer = quiesce.Quiescer(conf, capabilities)

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Point]:
        """:raises nova_snap.exception.ScratchFull: if the guest writes more than there is room for.

        :raises nova_snap.exception.BackupJobFailed: if another backup runs.
        :raises nova_snap.exception.AgentError: if a required freeze failed.
        """
        backup_job.check_free(request.guest, self._is_own)
        sizes = {
            image.disk.target: request.guest.disk_capacity(image.disk.target)
            for image in request.images
        }
        scratches = self._make_scratches(request, sizes)
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(socket_directory(self._conf, request))
            socket = os.path.join(directory, _SOCKET)
            clients = [self._client(socket, image) for image in request.images]
            guard = self._guard(request, list(scratches.values()), socket, clients)
            guard.check()
            stack.enter_context(_scratch_error(guard))
            quiesced = self._begin(request, stack, socket, scratches, guard)
            request.begin()
            contents = [
                open_content(self._conf, stack, image, client)
                for image, client in zip(request.images, clients, strict=True)
            ]
            for image, client in zip(request.images, clients, strict=True):
                _check_size(
                    request.guest.name, image.disk.target, sizes[image.disk.target], client.size
                )
            yield Point(contents, quiesced=quiesced, temp_bytes=guard.measure)

    def _make_scratches(self, request: Request, sizes: Mapping[str, int]) -> Mapping[str, str]:
        """An empty file for what the guest overwrites, for each disk: target and path."""
        made = {}
        for image in request.images:
            target = image.disk.target
            made[target] = request.workdir.new_file(f"scratch-{target}")
            self._make_scratch(image, made[target], sizes[target])
        return made

    def _make_scratch(self, image: ImageRequest, path: str, size: int) -> None:
        encryption = image.disk.layer_encryption
        if encryption is None:
            qcow2.write_empty(path, size)
            return
        # What the guest overwrites is not to lie about in plain text either.
        layer = chains.Layer(path, "qcow2", size, encryption=encryption)
        with image.backend.keys([layer]) as keys:
            self._tool.create_encrypted(layer, keys)

    def _client(self, socket: str, image: ImageRequest) -> nbd.Client:
        return nbd.Client(
            socket, image.disk.target, timeout=self._conf.libvirt.snapshot_read_timeout
        )

    def _is_own(self, socket: str) -> bool:
        """Whether :func:`socket_directory` has made it, and not another tool that uses the same
        parent directory."""
        directory, name = os.path.split(socket)
        parent, own = os.path.split(directory)
        if name != _SOCKET or _SOCKET_DIRECTORY.fullmatch(own) is None:
            return False
        settings = self._conf.libvirt
        if parent == (settings.snapshot_socket_directory or "").rstrip("/"):
            return True
        above, snapshot = os.path.split(parent)
        return above == settings.snapshots_directory.rstrip("/") and workdir.is_name(snapshot)

    def _guard(
        self,
        request: Request,
        scratches: Sequence[str],
        socket: str,
        clients: Sequence[nbd.Client],
    ) -> ScratchGuard:
        def stop() -> None:
            # In this order: see backup_job.Job.
            for client in clients:
                client.close()
            backup_job.end(request.guest, socket)

        reserve = self._conf.libvirt.snapshot_scratch_reserve * units.Mi
        return ScratchGuard(request.guest, scratches, reserve, stop)

    def _begin(
        self,
        request: Request,
        stack: contextlib.ExitStack,
        socket: str,
        scratches: Mapping[str, str],
        guard: ScratchGuard,
    ) -> bool:
        """Begin the job, between a freeze and a thaw where that is wanted.

        The scratch files are watched as soon as the guest may write to them, which a guest does
        that is not frozen after all, and for as long as its thaw may take.

        :returns: whether the guest's file systems were frozen at that moment.
        """
        note = request.workdir.note
        job = stack.enter_context(
            backup_job.Job(
                request.guest,
                backup_job.job_xml(request.domain, socket, scratches),
                socket,
                request.workdir.path,
                lambda socket: note(backup_socket=socket),
            )
        )
        if not request.quiesce:
            job.begin()
            stack.enter_context(guard)
            return False
        with self._quiescer.frozen(
            request.guest, request.quiesce_required, lambda frozen: note(frozen=frozen)
        ) as quiesced:
            # No other step may hold the guest's writes up for as long as libvirt's calls may take.
            job.begin(self._conf.libvirt.agent_timeout)
            stack.enter_context(guard)
        return quiesced


def open_content(
    conf: cfg.ConfigOpts, stack: contextlib.ExitStack, image: ImageRequest, client: nbd.Client
) -> Content:
    """The image of what ``client`` reads, as the configuration wants it.

    :param stack: what is closed when the image has been read: the client, too.
    """
    settings = conf.libvirt
    options = pipeline.Options(
        image_format=image.image_format,
        compression=settings.snapshot_compression,
        spool_memory=settings.snapshot_spool_memory * units.Mi,
        find_zeroes=image.disk.source_type == "block",
    )
    control = Control(
        progress=image.monitor.progress,
        cancelled=lambda: _is_cancelled(image.monitor),
        throttle=Throttle(settings.snapshot_bandwidth * units.Mi),
    )
    stack.enter_context(client)
    image.monitor.on_cancel(client.close)
    opened = stack.enter_context(pipeline.open_image(client, options, control))
    # Its length belongs to the whole from now on, and not only when its turn comes.
    control.account(0)
    return Content(opened, opened.size, client.size)


def _check_size(domain: str, target: str, wanted: int, found: int) -> None:
    """See that what is exported is all of the disk: a shorter image would look whole.

    :param wanted: bytes, by libvirt. :param found: the same, by the export.
    :raises nova_snap.exception.BackupJobFailed: if it is less.
    """
    if found < wanted:
        reason = f"it exports {found} bytes of disk {target}, which has {wanted}"
        raise exception.BackupJobFailed(domain=domain, reason=reason)


def _is_cancelled(monitor: SnapshotMonitor) -> bool:
    try:
        monitor.check()
    except exception.NovaSnapError:
        return True
    return False


@contextlib.contextmanager
def _scratch_error(guard: ScratchGuard) -> Iterator[None]:
    """Whatever an ended job looks like from here, the reason is the guard's."""
    try:
        yield
    except Exception as exc:
        if guard.error is not None:
            raise guard.error from exc
        raise


@contextlib.contextmanager
def socket_directory(
    conf: cfg.ConfigOpts, request: Request, owner: tuple[int, int] | None = None
) -> Iterator[str]:
    """A directory for a socket, which only the socket's maker and root can enter.

    :param owner: user and group of the maker; ``None`` is the hypervisor, of a guest that runs.
    :raises nova_snap.exception.SocketDirectoryUnusable: if it cannot be made, or if its path is too
        long for a socket.
    """
    parent = conf.libvirt.snapshot_socket_directory or request.workdir.path
    directory = os.path.join(parent, f"s{secrets.token_hex(4)}")
    if len(os.fsencode(os.path.join(directory, _SOCKET))) > _MAX_SOCKET_PATH:
        reason = f"the path of a socket in it is longer than {_MAX_SOCKET_PATH} bytes"
        raise exception.SocketDirectoryUnusable(path=directory, reason=reason)
    # It need not lie where everything else is found that a dead process leaves.
    request.workdir.note(socket_directory=directory)
    try:
        _make_private(directory, owner or domain_xml.dac_owner(request.guest.xml()))
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        request.workdir.note(socket_directory="")


def _make_private(directory: str, owner: tuple[int, int] | None) -> None:
    try:
        os.mkdir(directory, 0o700)
        # Not by its name: who may write to its parent could have put a link in its place.
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            # Not by mkdir's argument alone: a umask may take the owner's rights.
            os.fchmod(descriptor, 0o700)
            if owner is not None and os.geteuid() == 0:
                os.fchown(descriptor, *owner)
        finally:
            os.close(descriptor)
    except OSError as exc:
        raise exception.SocketDirectoryUnusable(path=directory, reason=str(exc)) from exc
