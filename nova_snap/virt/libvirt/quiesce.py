# SPDX-License-Identifier: Apache-2.0
"""A guest's file systems held still for the moment of the snapshot, and thawed whatever happens.

The properties of the instance's image decide: ``hw_qemu_guest_agent`` says that the guest has an
agent, ``os_require_quiesce`` that a snapshot without a freeze is worth nothing.
"""

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from oslo_config import cfg
from oslo_log import log as logging
from oslo_utils import strutils

from nova_snap import exception
from nova_snap.compute import power_state
from nova_snap.virt.libvirt import domain_xml
from nova_snap.virt.libvirt.capabilities import Capabilities
from nova_snap.virt.libvirt.guest import Guest

LOG = logging.getLogger(__name__)

_THAW_PAUSE: Final = 0.5
_WORTH_ANOTHER_TRY: Final = (
    exception.AgentError,
    exception.HypervisorUnavailable,
    exception.HostStarved,
)


@dataclasses.dataclass(frozen=True)
class Policy:
    """What the image's properties ask for.

    :ivar has_agent: the guest is said to have an agent.
    :ivar required: a snapshot must not be taken without a freeze.
    """

    has_agent: bool
    required: bool

    @classmethod
    def from_properties(cls, properties: Mapping[str, str]) -> "Policy":
        """:param properties: of the image that the instance was made from."""
        return cls(
            has_agent=strutils.bool_from_string(properties.get("hw_qemu_guest_agent")),
            required=strutils.bool_from_string(properties.get("os_require_quiesce")),
        )


def can_quiesce(policy: Policy, state: int, domain: domain_xml.Domain) -> bool:
    """Decide before any work is done whether the guest will be frozen.

    :param state: a number of :mod:`nova_snap.compute.power_state`.
    :returns: whether to freeze. A guest that is shut off has nothing to freeze.
    :raises nova_snap.exception.QuiesceUnsupported: if it cannot be done but is required.
    """
    if state == power_state.SHUTDOWN:
        return False
    reason = _obstacle(policy, state, domain)
    if reason is None:
        return True
    if policy.required:
        raise exception.QuiesceUnsupported(domain=domain.name, reason=reason)
    if policy.has_agent:
        LOG.warning("Guest %s is not quiesced for its snapshot: %s", domain.name, reason)
    return False


def _obstacle(policy: Policy, state: int, domain: domain_xml.Domain) -> str | None:
    if not policy.has_agent:
        return "the image property hw_qemu_guest_agent is not set"
    if state != power_state.RUNNING:
        return f"it is {power_state.NAMES.get(state, state)}, so that its agent cannot answer"
    if domain.agent_channel is None:
        return f"its domain has no channel {domain_xml.AGENT_CHANNEL}"
    if domain.agent_channel == "disconnected":
        return "no agent in the guest has opened its channel"
    return None


class Quiescer:
    """Freezes and thaws.

    An agent has ``[libvirt] agent_timeout`` for each answer. What libvirt has sent to an agent that
    hangs is not lost: when the agent wakes up, it freezes the guest although everybody has given
    up. Therefore an agent is asked something harmless first, and is not told to freeze unless it
    answers; and whatever becomes of a freeze, a thaw follows, which is tried again for
    ``[libvirt] thaw_timeout``.
    """

    def __init__(self, conf: cfg.ConfigOpts, capabilities: Capabilities) -> None:
        self._agent_timeout: int = conf.libvirt.agent_timeout
        self._thaw_timeout: int = conf.libvirt.thaw_timeout
        self._capabilities = capabilities

    @contextlib.contextmanager
    def frozen(
        self, guest: Guest, required: bool, note: Callable[[bool], None] = lambda _frozen: None
    ) -> Iterator[bool]:
        """Freeze on entry, thaw on exit.

        :param required: a guest that cannot be frozen is an error, and not only a warning.
        :param note: told True before the guest may become frozen, and False when it is not.
        :returns: whether the guest is frozen.
        :raises nova_snap.exception.AgentError: if a required freeze failed, or if a guest that may
            be frozen could not be thawed.
        """
        with self._limited_agent(guest):
            if not self._answers(guest, required):
                yield False
                return
            note(True)
            try:
                yield self._freeze(guest, required)
            finally:
                self._thaw(guest)
                note(False)

    def _answers(self, guest: Guest, required: bool) -> bool:
        try:
            guest.ask_agent_for_time(self._agent_timeout)
        except exception.AgentUnresponsive as exc:
            if required:
                raise
            LOG.warning("The snapshot goes on without a freeze: %s", exc)
            return False
        except exception.AgentError as exc:
            # It is there, and does not tell the time.
            LOG.debug("%s", exc)
        return True

    def _freeze(self, guest: Guest, required: bool) -> bool:
        try:
            count = guest.freeze(self._agent_timeout)
        except exception.AgentError as exc:
            if required:
                raise
            LOG.warning("The snapshot goes on without a freeze: %s", exc)
            return False
        LOG.debug("Guest %s has frozen %d file systems", guest.name, count)
        return True

    def thaw(self, guest: Guest) -> None:
        """Thaw a guest that may be frozen, and try again while there is time.

        :raises nova_snap.exception.AgentError: if that fails.
        """
        with self._limited_agent(guest):
            self._thaw(guest)

    def _thaw(self, guest: Guest) -> None:
        deadline = time.monotonic() + self._thaw_timeout
        pause = threading.Event()
        while True:
            try:
                guest.thaw(self._agent_timeout)
                return
            except _WORTH_ANOTHER_TRY as exc:
                if _is_gone(guest):
                    return
                if time.monotonic() >= deadline:
                    LOG.error(
                        "Guest %s could not be thawed within %d s and MAY BE FROZEN. Thaw it with: "
                        "virsh domfsthaw %s. The last error: %s",
                        guest.name, self._thaw_timeout, guest.name, exc,
                    )  # fmt: skip
                    raise
                LOG.warning("Thawing guest %s is tried again: %s", guest.name, exc)
            except exception.DomainNotFound:
                return
            pause.wait(_THAW_PAUSE)

    @contextlib.contextmanager
    def _limited_agent(self, guest: Guest) -> Iterator[None]:
        """Have libvirt bound the agent's answers meanwhile, where it can."""
        self._limit_agent(guest, self._agent_timeout)
        try:
            yield
        finally:
            self._limit_agent(guest, None)

    def _limit_agent(self, guest: Guest, seconds: int | None) -> None:
        if not self._capabilities.has_agent_timeout:
            return
        try:
            guest.set_agent_timeout(seconds)
        except exception.NovaSnapError as exc:
            LOG.warning("The agent of %s keeps its old time limit: %s", guest.name, exc)


def _is_gone(guest: Guest) -> bool:
    """The guest does not run any more: nothing is frozen."""
    try:
        return not guest.is_active()
    except exception.DomainNotFound:
        return True
    except exception.NovaSnapError:
        return False
