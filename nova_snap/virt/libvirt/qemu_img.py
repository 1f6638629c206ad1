# SPDX-License-Identifier: Apache-2.0
"""Every call to qemu-img: with explicit formats, with limits, with a bound on its time."""

import subprocess
from collections.abc import Callable, Sequence
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import confinement, processes, secrets

LOG = logging.getLogger(__name__)

OUTPUT_FORMATS: Final = ("raw", "qcow2", "vmdk", "vdi")

_MAX_STDERR = 2000

# QEMU finds out how fast it derives a key by its CPU time, which some kernels count in ticks that
# are longer than its first try takes: then it gives up. Seen in one of six tries.
_UNTIMED: Final = "Unable to get accurate CPU usage"
_KEY_TRIES: Final = 6

OnCancel = Callable[[Callable[[], None]], None]
"""Takes a function to call when the work is not wanted any more."""


def never(_stop: Callable[[], None]) -> None:
    """Nobody cancels."""


class QemuImg:
    """The commands that snapshots need. Paths are absolute and may hold any character."""

    def __init__(self, conf: cfg.ConfigOpts, program: str = "qemu-img") -> None:
        """:raises nova_snap.exception.ToolsUserUnusable: if the configuration names a user that it
        cannot run as.

        :ivar user: whom it runs as where it reads a disk; ``None`` is this process's own.
        """
        self._conf = conf
        self._program = program
        self.user = confinement.tools_user(conf)

    def create_overlay(self, path: str, backing: chains.Chain, virtual_size: int) -> None:
        """Make an empty qcow2 file over a backing chain, or over nothing if that is empty.

        :param virtual_size: in bytes.
        :raises nova_snap.exception.QemuImgFailed:
        """
        arguments = ["-f", "qcow2"]
        if backing:
            # "unsafe" is: without opening the backing file, which this has no need to do.
            arguments += ["-u", "-b", backing[0].path, "-F", backing[0].format]
        self._create(*arguments, path, str(virtual_size))

    def create_encrypted(self, layer: chains.Layer, keys: secrets.Keys) -> None:
        """Make an empty qcow2 file that is encrypted with LUKS, to be thrown away soon.

        :param layer: what to make.
        :param keys: see :func:`nova_snap.virt.libvirt.secrets.key_files`.
        :raises nova_snap.exception.QemuImgFailed:
        """
        ((key, _secret),) = chains.secrets([layer])
        # How long a passphrase takes to try. QEMU opens the file while its guest runs, which
        # stands still as long as that takes.
        options = f"encrypt.format=luks,encrypt.key-secret={key},encrypt.iter-time=10"
        for left in reversed(range(_KEY_TRIES)):
            try:
                self._create(
                    *keys.arguments, "-f", "qcow2", "-o", options, layer.path,
                    str(layer.virtual_size), descriptors=keys.descriptors,
                )  # fmt: skip
                return
            except exception.QemuImgFailed as exc:
                if _UNTIMED not in exc.stderr or not left:
                    raise
                LOG.info("%s is tried again: %s", layer.path, exc.stderr)

    def create_raw(self, path: str, virtual_size: int) -> None:
        """Make an empty raw file that takes no space.

        :param virtual_size: in bytes.
        :raises nova_snap.exception.QemuImgFailed:
        """
        self._create("-f", "raw", path, str(virtual_size))

    def convert(
        self,
        source: chains.Chain,
        target: str,
        out_format: str,
        compress: bool = False,
        on_cancel: OnCancel = never,
        keys: secrets.Keys = secrets.NO_KEYS,
    ) -> None:
        """Write what a guest sees of a disk, which no guest has open, into one flat file.

        :param target: overwritten; nobody else may read it if it is made here.
        :param compress: for qcow2: compress each cluster with zlib.
        :param on_cancel: given a function that stops the command, which then fails.
        :param keys: see :func:`nova_snap.virt.libvirt.secrets.key_files`.
        :raises nova_snap.exception.QemuImgFailed: also when it takes longer than
            ``[libvirt] qemu_img_timeout``.
        """
        if out_format not in OUTPUT_FORMATS:
            raise ValueError(f"{out_format!r} is none of {OUTPUT_FORMATS}")
        words = [self._program, "convert", *keys.arguments, "-O", out_format]
        if compress and out_format == "qcow2":
            words.append("-c")
        words += [chains.filename(source, exclusive=True), target]
        with confinement.lent(target, self.user):
            self._run(
                "convert",
                confinement.command(words, confinement.COPY_LIMITS, self.user, source, [target]),
                seconds=self._conf.libvirt.qemu_img_timeout,
                on_cancel=on_cancel,
                descriptors=keys.descriptors,
            )

    def _create(self, *arguments: str, descriptors: Sequence[int] = ()) -> None:
        """As this process: it reads nothing, and writes where this process does."""
        words = [self._program, "create", "-q", *arguments]
        confined = confinement.command(words, confinement.HEADER_LIMITS)
        self._run("create", confined, descriptors=descriptors)

    def _run(
        self,
        command: str,
        words: Sequence[str],
        seconds: int = confinement.HEADER_SECONDS,
        on_cancel: OnCancel = never,
        descriptors: Sequence[int] = (),
    ) -> None:
        """:param command: what to call it in errors.

        :raises nova_snap.exception.QemuImgFailed:
        """
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                errors="replace",
                env=confinement.environment(),
                pass_fds=descriptors,
            )
        except OSError as exc:
            raise exception.QemuImgFailed(command=command, exit_code=None, stderr=str(exc)) from exc
        try:
            with processes.ended(process, "qemu-img"):
                # Harmless when it has ended: a Popen knows that and sends nothing.
                on_cancel(process.kill)
                _stdout, stderr = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as exc:
            raise exception.QemuImgFailed(
                command=command, exit_code=None, stderr=f"stopped after {seconds} s"
            ) from exc
        if process.returncode:
            raise exception.QemuImgFailed(
                command=command, exit_code=process.returncode, stderr=stderr.strip()[-_MAX_STDERR:]
            )
