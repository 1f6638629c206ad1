# SPDX-License-Identifier: Apache-2.0
"""Images in a Ceph cluster, through the commands ``rbd`` and ``ceph``.

Ceph's Python bindings belong to the system's Python, of whatever version that is; the commands
serve any. Each of them gets the names as options, an end to its time, and no key: they find that
in a keyring by the name of the user.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeVar

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import domain_disks, processes

LOG = logging.getLogger(__name__)

_T = TypeVar("_T")

_MAX_REASON: Final = 1000
# What QEMU, and a column of the database, can count.
_MAX_SIZE: Final = 2**63 - 1
# What becomes of JSON of another shape, or of none that Python reads.
_UNUSABLE: Final = (
    *(ValueError, KeyError, IndexError, TypeError, AttributeError, OverflowError, RecursionError),
)
_TERMINATE_SECONDS: Final = 2.0
# Ceph takes a client for dead that was not heard of for 30 s.
_WATCH_SECONDS: Final = 45.0
# The commands must not run with the modules of this process's Python.
_FOREIGN: Final = ("PYTHON", "VIRTUAL_ENV")

OnCancel = Callable[[Callable[[], None]], None]
"""Takes a function to call when the work is not wanted any more."""


def never(_stop: Callable[[], None]) -> None:
    """Nobody cancels."""


@dataclasses.dataclass(frozen=True)
class Access:
    """How a cluster is reached, and as whom; empty is what Ceph does by default.

    :ivar conf_file: such as ``/etc/ceph/ceph.conf``.
    :ivar user: without ``client.``.
    :ivar monitors: addresses, separated by commas.
    """

    conf_file: str = ""
    user: str = ""
    monitors: str = ""

    @classmethod
    def of(cls, conf: cfg.ConfigOpts, source: domain_disks.NetworkSource) -> Access:
        """By ``[libvirt] images_rbd_ceph_conf`` and ``rbd_user``, or else by the domain's XML.

        :raises nova_snap.exception.UnsafeDisk: if that names no file that can be meant.
        """
        source.check_config_file()
        conf_file = conf.libvirt.images_rbd_ceph_conf or source.config_file or ""
        return cls(
            conf_file=conf_file,
            user=conf.libvirt.rbd_user or source.user or "",
            # A file knows them better than a domain that was defined years ago.
            monitors="" if conf_file else ",".join(_address(*host) for host in source.hosts),
        )

    def facts(self) -> dict[str, str]:
        """By name, for a journal."""
        return dataclasses.asdict(self)

    def arguments(self) -> list[str]:
        """For both commands."""
        named = (("--conf", self.conf_file), ("--id", self.user), ("--mon-host", self.monitors))
        return [f"{option}={value}" for option, value in named if value]


@dataclasses.dataclass(frozen=True)
class Image:
    """The name of an image."""

    pool: str
    name: str
    namespace: str = ""

    @classmethod
    def parse(cls, spec: str) -> Image:
        """:param spec: ``pool/image`` or ``pool/namespace/image``."""
        pool, _, rest = spec.partition("/")
        namespace, _, name = rest.rpartition("/")
        return cls(pool, name, namespace)

    def __str__(self) -> str:
        return "/".join(part for part in (self.pool, self.namespace, self.name) if part)

    def arguments(self) -> list[str]:
        """As the image that a command is about."""
        return self._options("pool", "namespace", "image")

    def target_arguments(self) -> list[str]:
        """As the image that a command makes."""
        return self._options("dest-pool", "dest-namespace", "dest")

    def _options(self, *names: str) -> list[str]:
        values = (self.pool, self.namespace, self.name)
        return [f"--{name}={value}" for name, value in zip(names, values, strict=True) if value]


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """:ivar size: bytes that a guest sees.

    :ivar parent: the image that this is a clone of.
    """

    size: int
    parent: Image | None


class Cluster:
    """One Ceph cluster.

    Every method raises :class:`nova_snap.exception.CephFailed`: with an ``exit_code`` of ``None``
    where the command was not done in time, else with the number of an error (``errno``).
    """

    def __init__(self, conf: cfg.ConfigOpts, access: Access) -> None:
        self.access = access
        self._seconds: float = conf.libvirt.operation_timeout
        self._connect_seconds: int = conf.libvirt.rbd_connect_timeout

    def fsid(self) -> str:
        """What tells this cluster from all others."""
        limit = f"--connect-timeout={self._connect_seconds}"
        return self._ask(lambda found: str(found["fsid"]), "ceph", limit, "fsid")

    def info(self, image: Image) -> ImageInfo:
        """What an image is."""
        return self._ask(_image_info, "rbd", "info", *image.arguments())

    def snapshots(self, image: Image) -> Sequence[str]:
        """Names of the snapshots of an image."""

        def names(found: Any) -> list[str]:
            return [str(each["name"]) for each in found]

        return self._ask(names, "rbd", "snap", "ls", *image.arguments())

    def children(self, image: Image) -> Sequence[Image]:
        """The clones of all snapshots of an image, also those in the trash."""

        def images(found: Any) -> list[Image]:
            return [_named_image(child) for child in found]

        return self._ask(images, "rbd", "children", "--all", *image.arguments())

    def create_snapshot(self, image: Image, snapshot: str, seconds: float | None = None) -> None:
        """Whatever is written to the image from now on is not in the snapshot."""
        self._rbd("snap", "create", "--no-progress", *_snapshot(image, snapshot), seconds=seconds)

    def protect(self, image: Image, snapshot: str) -> None:
        """Keep a snapshot from being removed, without which not every cluster clones it."""
        self._rbd("snap", "protect", *_snapshot(image, snapshot))

    def unprotect(self, image: Image, snapshot: str) -> None:
        """:meth:`protect` undone; refused (EBUSY) as long as there are clones, where clones are
        of the first format."""
        self._rbd("snap", "unprotect", *_snapshot(image, snapshot))

    def remove_snapshot(self, image: Image, snapshot: str) -> None:
        """Refused (EBUSY) for one that is protected. One with clones of the second format is gone
        from sight, and Ceph removes it with the last of them."""
        self._rbd("snap", "rm", "--no-progress", *_snapshot(image, snapshot))

    def clone(self, image: Image, snapshot: str, target: Image) -> None:
        """Make an image that has the snapshot's content, which stays where it is."""
        self._rbd("clone", *_snapshot(image, snapshot), *target.target_arguments())

    def remove(self, image: Image) -> None:
        """Refused (EBUSY) as long as the image is open somewhere. It takes half a minute after a
        client that had it open has died."""
        seconds = max(self._seconds, _WATCH_SECONDS)
        self._rbd("rm", "--no-progress", *image.arguments(), seconds=seconds)

    def flatten(self, image: Image, seconds: float, on_cancel: OnCancel, log_path: str,
                on_start: Callable[[int], None]) -> None:  # fmt: skip
        """Copy what the image shares with its parent; all of it goes through this host.

        :param on_cancel: given a function that ends the command, which then fails.
        :param log_path: for what the command has to say.
        :param on_start: is told the process id, and 0 when it has ended.
        """
        with open(log_path, "w+b") as log:
            arguments = ["rbd", "flatten", "--no-progress", *image.arguments()]
            self._run(arguments, seconds, log, on_cancel, on_start)

    def add_flatten_task(self, image: Image) -> str:
        """Have Ceph's manager flatten an image, so that nothing of it comes to this host.

        :returns: what the task is known by.
        """
        words = ("ceph", "rbd", "task", "add", "flatten", str(image))
        return self._ask(lambda found: str(found["id"]), *words)

    def task(self, task_id: str) -> Mapping[str, Any] | None:
        """What the manager says of a task of its; ``None`` when it has ended."""
        try:
            found = self._ask(dict, "ceph", "rbd", "task", "list", task_id)
        except exception.CephFailed as exc:
            if exc.exit_code == errno.ENOENT:
                return None
            raise
        return found or None

    def cancel_task(self, task_id: str) -> None:
        """Have the manager end a task; one that has ended is no error."""
        with ignored(errno.ENOENT):
            self._ask(lambda _found: None, "ceph", "rbd", "task", "cancel", task_id)

    # -- commands --------------------------------------------------------------------------

    def _ask(self, read: Callable[[Any], _T], program: str, *arguments: str) -> _T:
        """Run a command that answers in JSON.

        :param read: makes of the answer what is wanted; what it cannot read is a failure.
        """
        answer = self._run([program, "--format=json", *arguments], self._seconds)
        try:
            return read(json.loads(answer) if answer.strip() else {})
        except _UNUSABLE as exc:
            raise exception.CephFailed(
                command=_title([program, *arguments]),
                exit_code=0,
                reason=f"unusable answer: {exc!r:.200}",
            ) from exc

    def _rbd(self, *arguments: str, seconds: float | None = None) -> None:
        self._run(["rbd", *arguments], self._seconds if seconds is None else seconds)

    def _run(
        self,
        command: Sequence[str],
        seconds: float,
        log: Any = subprocess.PIPE,
        on_cancel: OnCancel = never,
        on_start: Callable[[int], None] = lambda _pid: None,
    ) -> str:
        program, *rest = command
        limit = [] if program == "ceph" else [f"--client-mount-timeout={self._connect_seconds}"]
        LOG.debug("Running: %s", " ".join(command))
        try:
            process = subprocess.Popen(
                [program, *self.access.arguments(), *limit, *rest],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                env=_environment(),
            )
        except OSError as exc:
            raise exception.CephFailed(
                command=program, exit_code=exc.errno, reason=f"it cannot be run: {exc}"
            ) from exc
        try:
            # A cluster that does not answer does not let it end.
            with processes.ended(process, program, _TERMINATE_SECONDS):
                on_start(process.pid)
                on_cancel(process.terminate)
                stdout, stderr = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            reason = f"it was not done within {seconds:g} s"
            raise exception.CephFailed(
                command=_title(command), exit_code=None, reason=reason
            ) from exc
        finally:
            on_start(0)
        if process.returncode:
            if stderr is None:
                log.seek(0)
                stderr = log.read()
            raise exception.CephFailed(
                command=_title(command), exit_code=process.returncode, reason=_reason(stderr)
            )
        return stdout.decode("utf-8", "replace")


@contextlib.contextmanager
def ignored(*codes: int) -> Iterator[None]:
    """A command that ends with one of these errors has found things as they are to be."""
    try:
        yield
    except exception.CephFailed as exc:
        if exc.exit_code not in codes:
            raise
        LOG.debug("%s", exc)


def _image_info(found: Any) -> ImageInfo:
    size, parent = found["size"], found.get("parent")
    if type(size) is not int or not 0 <= size <= _MAX_SIZE:
        raise ValueError(f"size is {size!r:.40}")
    return ImageInfo(size=size, parent=_named_image(parent) if parent else None)


def _named_image(found: Any) -> Image:
    return Image(str(found["pool"]), str(found["image"]), str(found.get("pool_namespace") or ""))


def _snapshot(image: Image, snapshot: str) -> list[str]:
    return [*image.arguments(), f"--snap={snapshot}"]


def _address(name: str, port: str | None) -> str:
    shown = f"[{name}]" if ":" in name and not name.startswith("[") else name
    return f"{shown}:{port}" if port else shown


def _title(command: Sequence[str]) -> str:
    """What to call a command: its options tell of which image, but not as whom."""
    skipped = ("--format", "--connect-timeout", "--no-progress")
    return " ".join(word for word in command if not word.startswith(skipped))


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, "LC_ALL": "C"}


def _reason(stderr: bytes) -> str:
    """What the command itself says, if it does, without what its libraries say."""
    lines = [line.strip() for line in stderr.decode("utf-8", "replace").splitlines()]
    own = [line for line in lines if line.startswith(("rbd: ", "Error ", "ceph: "))]
    return "; ".join(own or [line for line in lines if line][-3:])[-_MAX_REASON:] or "no reason"
