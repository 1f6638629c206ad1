# SPDX-License-Identifier: Apache-2.0
"""The disk of a guest that does not run is read where it lies.

QEMU's own file locks keep the guest from being started meanwhile, or the disk from being read if
it was started first: an image is never of two moments.
"""

from nova_snap.virt.libvirt.snapshot.base import Extract, Request


class Offline:
    """For a guest that is shut off, or suspended to disk: its saved memory is not touched."""

    def take(self, request: Request) -> Extract:
        """:raises nova_snap.exception.QemuImgFailed: also if the guest is started first."""
        request.begin()
        target = request.workdir.new_file("image")
        request.backend.snapshot_extract(target, request.image_format)
        return Extract(target)
