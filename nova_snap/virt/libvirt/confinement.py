# SPDX-License-Identifier: Apache-2.0
"""Who QEMU's tools are, and what they may take of the host.

They read headers that guests and users have made, and one of those may have been made to take a
tool over. So a tool is nobody in particular: a service that is root starts it as another user,
without any capability. A disk that this user may not read is the one exception: the tool gets the
capability to read any file then, and still cannot write to one.

Two programs of util-linux do it, prlimit and setpriv. Each becomes the next, so that the process id
of the first is the tool's. What is done between fork and exec in Python is no safe alternative in a
process with threads.
"""

import contextlib
import dataclasses
import functools
import os
import pwd
import resource
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import units

from nova_snap import exception
from nova_snap.virt.libvirt import chain as chains
from nova_snap.virt.libvirt import processes

LOG = logging.getLogger(__name__)

ROOT: Final = "root"

# Whom distributions run guests as: this user can read the disks of most hosts. The last is for a
# QEMU that no package installed.
_CANDIDATES: Final = ("libvirt-qemu", "qemu", "nobody")

# A chain has 200 layers at most, each of which QEMU opens up to three times.
_OPEN_FILES: Final = 1024
_PROBE_SECONDS: Final = 10

# What the tools, and librbd in them, look at. Whatever else is in the environment of the service is
# not for them: /proc shows it to whoever runs as the same user.
_ENVIRONMENT: Final = (
    "PATH", "LD_LIBRARY_PATH", "TMPDIR", "CEPH_ARGS", "CEPH_CONF", "CEPH_KEYRING",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Limits:
    """:ivar address_space: in bytes.

    :ivar cpu_seconds: of processor time; ``None`` is no limit.
    """

    address_space: int
    cpu_seconds: int | None = None

    def arguments(self) -> list[str]:
        """For prlimit. A limit that this process has itself is never raised."""
        wanted = {
            "as": (resource.RLIMIT_AS, self.address_space),
            "nofile": (resource.RLIMIT_NOFILE, _OPEN_FILES),
            # A core would have the guest's data in it.
            "core": (resource.RLIMIT_CORE, 0),
        }
        if self.cpu_seconds is not None:
            wanted["cpu"] = (resource.RLIMIT_CPU, self.cpu_seconds)
        return [f"--{name}={_at_most(*each)}" for name, each in wanted.items()]


# Reading a header takes milliseconds: whatever takes longer is a header made to hurt.
HEADER_SECONDS: Final = 30
HEADER_LIMITS: Final = Limits(2 * units.Gi, HEADER_SECONDS)
# Copying is bounded by the clock; the memory that it takes does not depend on the disk's size.
COPY_LIMITS: Final = Limits(8 * units.Gi)


@dataclasses.dataclass(frozen=True)
class User:
    """Whom the tools run as.

    :ivar groups: all of its groups.
    """

    name: str
    uid: int
    gid: int
    groups: Sequence[int]

    def arguments(self, read_all: bool) -> list[str]:
        """For setpriv. :param read_all: it may read every file of the host."""
        capabilities = "-all,+dac_read_search" if read_all else "-all"
        return [
            f"--reuid={self.uid}",
            f"--regid={self.gid}",
            f"--groups={','.join(map(str, self.groups))}",
            *(f"--{which}={capabilities}" for which in ("inh-caps", "ambient-caps")),
            f"--bounding-set={capabilities}",
        ]

    def may(self, access: str, path: str) -> bool:
        """Whether it has access by its own rights, of which only the kernel knows all.

        :param access: ``r`` or ``w``.
        """
        try:
            probe = ["setpriv", *self.arguments(read_all=False), "--", "test", f"-{access}", path]
            return _run(probe).returncode == 0
        except (OSError, subprocess.TimeoutExpired):
            return False


def tools_user(conf: cfg.ConfigOpts) -> User | None:
    """Whom to start the tools as: ``[libvirt] tools_user``.

    :returns: ``None``: as this process.
    :raises nova_snap.exception.ToolsUserUnusable:
    """
    return _find_user(conf.libvirt.tools_user, os.geteuid())


@functools.cache
def _find_user(wanted: str | None, euid: int) -> User | None:
    if euid != 0:
        if wanted is not None and _look_up(wanted).pw_uid != euid:
            reason = "this service does not run as root, and can start programs as itself only"
            raise exception.ToolsUserUnusable(user=wanted, reason=reason)
        return None
    entry = _look_up(wanted) if wanted is not None else _first_candidate()
    if entry is None or entry.pw_uid == 0:
        return None
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    user = User(entry.pw_name, entry.pw_uid, entry.pw_gid, tuple(groups))
    against = _reason_against(user)
    if against is None:
        LOG.info("qemu-img and qemu-nbd run as %s", user.name)
        return user
    if wanted is not None:
        raise exception.ToolsUserUnusable(user=wanted, reason=against)
    LOG.warning(
        "qemu-img and qemu-nbd run as root, for they cannot run as %s: %s", user.name, against
    )
    return None


def _look_up(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        reason = "there is no such user on this host"
        raise exception.ToolsUserUnusable(user=name, reason=reason) from None


def _first_candidate() -> pwd.struct_passwd | None:
    for name in _CANDIDATES:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    return None


def _reason_against(user: User) -> str | None:
    """Why programs cannot be started as somebody: a container may not let its root do so."""
    try:
        done = _run(["setpriv", "--no-new-privs", *user.arguments(read_all=True), "--", "true"])
    except (OSError, subprocess.TimeoutExpired) as exc:
        return str(exc)
    return None if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"


def command(
    words: Sequence[str],
    limits: Limits,
    user: User | None = None,
    chain: chains.Chain = (),
    writes: Sequence[str] = (),
) -> list[str]:
    """A tool with its arguments, so that it is confined.

    :param user: ``None``: it runs as this process.
    :param chain: what it reads.
    :param writes: files and directories that it writes to.
    """
    privileges = [] if user is None else user.arguments(_needs_help(user, chain, writes))
    # It gains nothing by a program that is set-user-id either, whoever it is.
    return [
        "prlimit", *limits.arguments(), "--",
        "setpriv", "--no-new-privs", *privileges, "--",
        *words,
    ]  # fmt: skip


def environment() -> Mapping[str, str]:
    """What the tools find in theirs."""
    kept = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
    return {**kept, "LC_ALL": "C"}


@contextlib.contextmanager
def lent(path: str, user: User | None) -> Iterator[None]:
    """A file that the tools write to belongs to their user for the block; made if it is missing.

    Nobody else may read what is made, whatever the umask. A file that cannot be made is left to
    the tool to complain about.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, flags, 0o600)
    except OSError:
        yield
        return
    try:
        if user is not None:
            os.fchown(descriptor, user.uid, user.gid)
        yield
    finally:
        if user is not None:
            os.fchown(descriptor, os.geteuid(), os.getegid())
        os.close(descriptor)


# Users of whom it was said that they have not all the rights that they need.
_told: Final[set[str]] = set()


def _needs_help(user: User, chain: chains.Chain, writes: Sequence[str]) -> bool:
    # The keys of a Ceph cluster lie where Ceph's own library looks for them.
    if any(layer.network is not None for layer in chain):
        return True
    wanted = [("r", layer.path) for layer in chain] + [("w", path) for path in writes]
    for access, path in wanted:
        if not user.may(access, path):
            _say_once(user.name, path)
            return True
    return False


def _say_once(name: str, path: str) -> None:
    if name in _told:
        return
    _told.add(name)
    LOG.info(
        "%s has no right of its own to %s: QEMU's tool gets the capability to read any file there "
        "(CAP_DAC_READ_SEARCH), and no other",
        name,
        path,
    )


def _at_most(which: int, wanted: int) -> int:
    _soft, hard = resource.getrlimit(which)
    return wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)


def _run(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return processes.run(words, _PROBE_SECONDS, environment())
