# SPDX-License-Identifier: Apache-2.0
"""The disk of a guest that does not run is read where it lies.

QEMU's own file locks keep the guest from being started meanwhile, or the disk from being read if
it was started first: an image is never of two moments.
"""

import contextlib
import os
from collections.abc import Iterator

from oslo_config import cfg

from nova_snap.stream import nbd, pipeline
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import qemu_nbd
from nova_snap.virt.libvirt.snapshot.base import Content, Extract, Request, file_content
from nova_snap.virt.libvirt.snapshot.stream import open_image, socket_directory


class Offline:
    """For a guest that is shut off, or suspended to disk: its saved memory is not touched."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    @contextlib.contextmanager
    def open(self, request: Request) -> Iterator[Content]:
        """:raises nova_snap.exception.QemuNbdFailed: also if the guest is started first.

        :raises nova_snap.exception.QemuImgFailed: the same, for formats that cannot be streamed.
        """
        request.begin()
        if request.image_format not in pipeline.FORMATS:
            with file_content(self._extract(request), request) as content:
                yield content
            return
        with contextlib.ExitStack() as stack:
            directory = stack.enter_context(socket_directory(self._conf, request))
            export = stack.enter_context(
                qemu_nbd.export(
                    chains.read(request.disk),
                    os.path.join(directory, "nbd"),
                    request.workdir.file("qemu-nbd.log"),
                    lambda pid: request.workdir.note(reader_pid=pid),
                )
            )
            timeout = self._conf.libvirt.snapshot_read_timeout
            client = stack.enter_context(nbd.Client(export.socket, export.name, timeout=timeout))
            request.monitor.on_cancel(client.close)
            image = stack.enter_context(open_image(self._conf, request, client))
            yield Content(image, image.size)

    def _extract(self, request: Request) -> Extract:
        target = request.workdir.new_file("image")
        request.backend.snapshot_extract(target, request.image_format)
        return Extract(target)
