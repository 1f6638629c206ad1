# SPDX-License-Identifier: Apache-2.0
"""Where the files of instances are: nothing outside of these paths is ever made or removed."""

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception

LOG = logging.getLogger(__name__)

BASE: Final = "_base"
LOCKS: Final = "locks"

# The hypervisor's user must get to the disks; what is in them, their own modes protect.
_DIRECTORY_MODE: Final = 0o755
# Its owner becomes the hypervisor's user as long as a guest has it; the group is that of whoever
# reads it when no guest has. Else the tools would need the right to read every file of the host.
_DISK_MODE: Final = 0o640


class InstanceFiles:
    """The directory ``instances_path``.

    :ivar root: absolute, without symbolic links.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self.root: str = os.path.realpath(conf.instances_path)

    @property
    def base(self) -> str:
        """Directory of the images that disks are made from."""
        return os.path.join(self.root, BASE)

    @property
    def locks(self) -> str:
        return os.path.join(self.root, LOCKS)

    def directory(self, instance_uuid: str) -> str:
        """:raises ValueError: if this is no uuid: it might lead anywhere."""
        if str(uuid.UUID(instance_uuid)) != instance_uuid.lower():
            raise ValueError(f"{instance_uuid!r} is no uuid")
        return os.path.join(self.root, instance_uuid)

    def disk(self, instance_uuid: str) -> str:
        """The root disk."""
        return os.path.join(self.directory(instance_uuid), "disk")

    def console_log(self, instance_uuid: str) -> str:
        return os.path.join(self.directory(instance_uuid), "console.log")

    def prepare(self) -> None:
        """Make what all instances share."""
        for directory in (self.root, self.base, self.locks):
            if not os.path.isdir(directory):
                os.makedirs(directory, exist_ok=True)
                # Not by the argument: that is subject to the umask.
                os.chmod(directory, _DIRECTORY_MODE)

    def make_directory(self, instance_uuid: str) -> str:
        """Make an instance's directory, empty: what an earlier try left in it is removed.

        :returns: its path.
        """
        path = self.directory(instance_uuid)
        if self.remove(instance_uuid):
            LOG.warning("Removed what an earlier try left of instance %s", instance_uuid)
        os.mkdir(path)
        os.chmod(path, _DIRECTORY_MODE)
        return path

    def make_disk(self, instance_uuid: str, group: int | None) -> str:
        """Make the file of the root disk, empty: a tool would make one that everybody may read.

        :param group: number of the group that may read it; ``None`` is this process's own.
        :returns: its path.
        :raises FileExistsError: if something has its name.
        """
        path = self.disk(instance_uuid)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600)
        try:
            if group is not None:
                os.fchown(descriptor, -1, group)
            os.fchmod(descriptor, _DISK_MODE)
        finally:
            os.close(descriptor)
        return path

    def remove(self, instance_uuid: str) -> bool:
        """Remove an instance's files.

        :returns: whether there were any.
        :raises nova_snap.exception.FilesNotRemoved: if some could not be removed.
        """
        path = self.directory(instance_uuid)
        try:
            # It does not follow symbolic links, and refuses to begin with one.
            shutil.rmtree(path)
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise exception.FilesNotRemoved(path=path, reason=str(exc)) from exc
        return True

    def disks(self) -> Iterator[str]:
        """Paths of the root disks of all instances."""
        with contextlib.suppress(FileNotFoundError), os.scandir(self.root) as entries:
            for entry in entries:
                path = os.path.join(entry.path, "disk")
                if entry.is_dir(follow_symlinks=False) and os.path.isfile(path):
                    yield path
