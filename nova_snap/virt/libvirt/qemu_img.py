# SPDX-License-Identifier: Apache-2.0
"""Every call to qemu-img: with explicit formats, with limits, with a bound on its time."""

import dataclasses
import json
import os
import subprocess
from collections.abc import Callable, Sequence
from typing import Any, Final

from oslo_concurrency import processutils
from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap.virt.libvirt import chain as chains

LOG = logging.getLogger(__name__)

OUTPUT_FORMATS: Final = ("raw", "qcow2", "vmdk", "vdi")

# Reading a header takes milliseconds: whatever takes longer is a header made to hurt.
HEADER_SECONDS: Final = 30
HEADER_LIMITS: Final = processutils.ProcessLimits(
    cpu_time=HEADER_SECONDS, address_space=2 * units.Gi, core_file_size=0
)
# Copying is bounded by the clock; the memory that it takes does not depend on the disk's size.
COPY_LIMITS: Final = processutils.ProcessLimits(address_space=8 * units.Gi, core_file_size=0)

_MAX_STDERR = 2000

# QEMU finds out how fast it derives a key by its CPU time, which some kernels count in ticks that
# are longer than its first try takes: then it gives up. Seen in one of six tries.
_UNTIMED: Final = "Unable to get accurate CPU usage"
_KEY_TRIES: Final = 6

OnCancel = Callable[[Callable[[], None]], None]
"""Takes a function to call when the work is not wanted any more."""


def never(_stop: Callable[[], None]) -> None:
    """Nobody cancels."""


@dataclasses.dataclass(frozen=True)
class ImageInfo:
    """:ivar virtual_size: bytes that a guest sees.

    :ivar disk_size: bytes that the file takes on the host.
    """

    format: str
    virtual_size: int
    disk_size: int


class QemuImg:
    """The commands that snapshots need. Paths are absolute and may hold any character."""

    def __init__(self, conf: cfg.ConfigOpts, program: str = "qemu-img") -> None:
        self._conf = conf
        self._program = program

    def info(self, path: str, image_format: str, in_use: bool = False) -> ImageInfo:
        """What an image is, taken for the format that is given.

        :param in_use: a guest has it open; its size on the host is then only of that moment.
        :raises nova_snap.exception.QemuImgFailed:
        :raises nova_snap.exception.UnsafeDisk: if its header must not be followed.
        """
        arguments = ["--output=json"]
        if in_use:
            arguments.append("--force-share")
        layers = chains.read_file(path, image_format)
        output = self._run("info", *arguments, chains.filename(layers[:1]))
        try:
            found = json.loads(output)
            return ImageInfo(
                format=found["format"],
                virtual_size=int(found["virtual-size"]),
                disk_size=int(found["actual-size"]),
            )
        except (ValueError, KeyError, TypeError) as exc:
            raise exception.QemuImgFailed(
                command="info", exit_code=0, stderr=f"unusable answer: {exc!r}"
            ) from exc

    def create_overlay(self, path: str, backing: chains.Chain, virtual_size: int) -> None:
        """Make an empty qcow2 file over a backing chain, or over nothing if that is empty.

        :param virtual_size: in bytes.
        :raises nova_snap.exception.QemuImgFailed:
        """
        arguments = ["-f", "qcow2"]
        if backing:
            # "unsafe" is: without opening the backing file, which this has no need to do.
            arguments += ["-u", "-b", backing[0].path, "-F", backing[0].format]
        self._run("create", "-q", *arguments, path, str(virtual_size), limits=None)

    def create_encrypted(self, layer: chains.Layer, keys: Sequence[str]) -> None:
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
                self._run(
                    "create", "-q", *keys, "-f", "qcow2", "-o", options, layer.path,
                    str(layer.virtual_size), limits=None,
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
        self._run("create", "-q", "-f", "raw", path, str(virtual_size))

    def convert(
        self,
        source: chains.Chain,
        target: str,
        out_format: str,
        compress: bool = False,
        on_cancel: OnCancel = never,
        keys: Sequence[str] = (),
    ) -> None:
        """Write what a guest sees of a disk, which no guest has open, into one flat file.

        :param compress: for qcow2: compress each cluster with zlib.
        :param on_cancel: given a function that stops the command, which then fails.
        :param keys: see :func:`nova_snap.virt.libvirt.secrets.key_files`.
        :raises nova_snap.exception.QemuImgFailed: also when it takes longer than
            ``[libvirt] qemu_img_timeout``.
        """
        if out_format not in OUTPUT_FORMATS:
            raise ValueError(f"{out_format!r} is none of {OUTPUT_FORMATS}")
        arguments = [*keys, "-O", out_format]
        if compress and out_format == "qcow2":
            arguments.append("-c")
        self._run(
            "convert",
            *arguments,
            chains.filename(source, exclusive=True),
            target,
            seconds=self._conf.libvirt.qemu_img_timeout,
            limits=COPY_LIMITS,
            on_cancel=on_cancel,
        )

    def _run(
        self,
        command: str,
        *arguments: str,
        seconds: int = HEADER_SECONDS,
        limits: processutils.ProcessLimits | None = HEADER_LIMITS,
        on_cancel: OnCancel = never,
    ) -> str:
        """:param limits: ``None`` for a command that reads no file. They are set by a Python of
        its own, whose start takes longer than such a command."""
        started: list[subprocess.Popen[Any]] = []

        def on_execute(process: subprocess.Popen[Any]) -> None:
            started.append(process)
            # Harmless when it has ended: a Popen knows that and sends nothing.
            on_cancel(process.kill)

        try:
            stdout, _stderr = processutils.execute(
                self._program,
                command,
                *arguments,
                prlimit=limits,
                timeout=seconds,
                on_execute=on_execute,
                env_variables={**os.environ, "LC_ALL": "C"},
            )
        except subprocess.TimeoutExpired as exc:
            raise exception.QemuImgFailed(
                command=command, exit_code=None, stderr=f"stopped after {seconds} s"
            ) from exc
        except processutils.ProcessExecutionError as exc:
            raise exception.QemuImgFailed(
                command=command,
                exit_code=exc.exit_code,
                stderr=(exc.stderr or "").strip()[-_MAX_STDERR:],
            ) from exc
        except OSError as exc:
            raise exception.QemuImgFailed(command=command, exit_code=None, stderr=str(exc)) from exc
        finally:
            # execute() leaves a late process running.
            for process in started:
                _stop(process)
        return str(stdout)


def _stop(process: subprocess.Popen[Any]) -> None:
    if process.poll() is None:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
