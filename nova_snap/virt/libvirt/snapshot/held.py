# SPDX-License-Identifier: Apache-2.0
"""Guests that are held still while somebody else takes the snapshot: the volume service.

Each is frozen by a thread of its own, which thaws it when it is told to, or by itself when
``[libvirt] quiesce_timeout`` is over. A journal says that it may be frozen, so that the next start
thaws it should this process die.
"""

import threading
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import exception
from nova_snap.virt.driver import InstanceLike
from nova_snap.virt.libvirt import quiesce
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.snapshot import workdir

LOG = logging.getLogger(__name__)

METHOD: Final = "volumes"
"""What the journal calls it."""

# Beside the agent's own limits, for libvirt and the journal.
_MARGIN_SECONDS: Final = 3.0


class HeldGuests:
    """The guests of one host that are held still."""

    def __init__(self, conf: cfg.ConfigOpts, host: Host) -> None:
        self._conf = conf
        self._host = host
        # The agent is asked whether it is there, and then to freeze.
        self._patience: float = 2 * conf.libvirt.agent_timeout + _MARGIN_SECONDS
        self._lock = threading.Lock()
        self._holds: dict[tuple[str, str], _Hold] = {}

    def freeze(self, instance: InstanceLike, guest: Guest, key: str) -> None:
        """Freeze the guest's file systems.

        :param key: names the snapshot, for :meth:`thaw`.
        :raises nova_snap.exception.QuiesceUnsupported: if that is not possible.
        :raises nova_snap.exception.AgentError: if it failed. Whatever froze is being thawed.
        """
        policy = quiesce.Policy.from_properties(instance.image_properties)
        # Whether it has to be is for the caller to know: what cannot be frozen is an error here.
        asked = quiesce.Policy(has_agent=policy.has_agent, required=True)
        if not quiesce.can_quiesce(asked, guest.power_state(), guest.describe()):
            raise exception.QuiesceUnsupported(domain=guest.name, reason="it is shut off")
        quiescer = quiesce.Quiescer(self._conf, self._host.capabilities())
        hold = _Hold(self._conf, quiescer, guest, instance.uuid)
        with self._lock:
            self._forget_ended()
            if any(uuid == instance.uuid for uuid, _ in self._holds):
                raise exception.AgentError(
                    domain=guest.name, operation="freeze", reason="it is held still already"
                )
            self._holds[instance.uuid, key] = hold
        hold.begin(self._patience)

    def thaw(self, instance_uuid: str, key: str) -> bool:
        """Thaw what was frozen.

        :returns: whether it was frozen until now.
        :raises nova_snap.exception.AgentError: if it is not thawed yet.
        """
        with self._lock:
            hold = self._holds.get((instance_uuid, key))
        return False if hold is None else hold.end(self._patience)

    def close(self) -> None:
        """Thaw all of them."""
        with self._lock:
            holds = list(self._holds.values())
        for hold in holds:
            hold.release()
        for hold in holds:
            hold.wait(self._patience)

    def _forget_ended(self) -> None:
        self._holds = {key: hold for key, hold in self._holds.items() if not hold.has_ended}


class _Hold:
    """One guest, frozen by a thread."""

    def __init__(
        self, conf: cfg.ConfigOpts, quiescer: quiesce.Quiescer, guest: Guest, instance_uuid: str
    ) -> None:
        self._directory: str = conf.libvirt.snapshots_directory
        self._host: str = conf.host
        self._seconds: int = conf.libvirt.quiesce_timeout
        self._quiescer = quiescer
        self._guest = guest
        self._instance_uuid = instance_uuid
        self._begun = threading.Event()
        self._release = threading.Event()
        self._ended = threading.Event()
        self._frozen = False
        self._is_over = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="held-guest", daemon=True)

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def begin(self, seconds: float) -> None:
        """Return when the guest is frozen.

        :raises nova_snap.exception.AgentError: if it is not, after ``seconds`` at the latest.
        """
        try:
            self._thread.start()
        except RuntimeError as exc:
            # Without a thread there is nobody who would thaw it. It was not frozen.
            self._error = exc
            self._ended.set()
            raise self._failure("freeze") from exc
        if not self._begun.wait(seconds):
            # Should it freeze after all, it thaws at once.
            self._release.set()
            raise exception.AgentUnresponsive(
                domain=self._guest.name, operation="freeze", reason=f"no end after {seconds:g} s"
            )
        if not self._frozen:
            raise self._error or self._failure("freeze")

    def release(self) -> None:
        """Have it thawed."""
        self._release.set()

    def wait(self, seconds: float) -> bool:
        """Whether it is thawed."""
        return self._ended.wait(seconds)

    def end(self, seconds: float) -> bool:
        """Have it thawed; whether it was frozen until now.

        :raises nova_snap.exception.AgentError: if it is not thawed after ``seconds``.
        """
        kept = self._frozen and not self._ended.is_set() and not self._is_over.is_set()
        self._release.set()
        if not self._ended.wait(seconds) and kept:
            raise self._failure("thaw")
        return kept

    def _run(self) -> None:
        try:
            self._hold()
        except Exception as error:
            self._error = error
            if self._frozen:
                LOG.error("Guest %s: %s", self._guest.name, error)
        finally:
            self._ended.set()
            self._begun.set()

    def _hold(self) -> None:
        directory = workdir.create(self._directory, self._instance_uuid, self._host)
        try:
            directory.note(domain=self._guest.name, domain_uuid=self._guest.uuid, method=METHOD)
            with self._quiescer.frozen(
                self._guest, True, lambda frozen: directory.note(frozen=frozen)
            ) as frozen:
                self._frozen = frozen
                self._begun.set()
                if not self._release.wait(self._seconds):
                    self._is_over.set()
                    LOG.warning(
                        "Guest %s has been frozen for %d s and nobody has come back: it is thawed",
                        self._guest.name,
                        self._seconds,
                    )
        finally:
            directory.close()

    def _failure(self, operation: str) -> exception.AgentError:
        reason = str(self._error or "the guest's agent takes its time")
        return exception.AgentError(domain=self._guest.name, operation=operation, reason=reason)
