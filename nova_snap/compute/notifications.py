# SPDX-License-Identifier: Apache-2.0
"""Telling others of snapshots: best effort, and never in a snapshot's way.

What is to be sent goes into a queue; a thread of its own hands it to the broker. A broker that is
down, or slow, holds up that thread only.
"""

import enum
import queue
import threading
from collections.abc import Callable
from typing import Any, Final, Protocol

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from nova_snap.compute import notification_payloads
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance

LOG = log.getLogger(__name__)

_QUEUE_LENGTH: Final = 1000

# What the context of a notification must not have in it: whoever reads one could act as its user.
_SECRETS: Final = ("auth_token", "service_catalog")


class Phase(enum.Enum):
    """What has become of a snapshot: the last part of an event's name."""

    START = "start"
    END = "end"
    ERROR = "error"


class Notifier(Protocol):
    """Whom the compute manager tells of its snapshots."""

    def snapshot(
        self,
        context: RequestContext,
        instance: Instance,
        image_id: str,
        phase: Phase,
        error: Exception | None = None,
    ) -> None:
        """Returns at once, and never raises."""

    def close(self, timeout: float) -> None:
        """Send what is left, within ``timeout`` seconds."""


class NoNotifications:
    """Nobody wants to know."""

    def snapshot(
        self,
        context: RequestContext,
        instance: Instance,
        image_id: str,
        phase: Phase,
        error: Exception | None = None,
    ) -> None:
        """See :class:`Notifier`."""

    def close(self, timeout: float) -> None:
        """See :class:`Notifier`."""


class Notifications:
    """Sends notifications from a thread of its own, in their order.

    :param versioned: of oslo.messaging, or ``None`` if that form is not wanted.
    :param unversioned: the same.
    :param length: how many may wait; the next are dropped, and that is logged.
    """

    def __init__(
        self,
        versioned: oslo_messaging.Notifier | None,
        unversioned: oslo_messaging.Notifier | None,
        length: int = _QUEUE_LENGTH,
    ) -> None:
        self._versioned = versioned
        self._unversioned = unversioned
        self._waiting: queue.Queue[Callable[[], None] | None] = queue.Queue(length)
        self._thread = threading.Thread(target=self._run, name="notifications", daemon=True)
        self._thread.start()

    def snapshot(
        self,
        context: RequestContext,
        instance: Instance,
        image_id: str,
        phase: Phase,
        error: Exception | None = None,
    ) -> None:
        """See :class:`Notifier`."""
        event = f"instance.snapshot.{phase.value}"
        try:
            if self._versioned is not None:
                payload = notification_payloads.versioned(context, instance, image_id, error)
                self._put(self._versioned, context, event, payload, phase)
            if self._unversioned is not None:
                payload = notification_payloads.unversioned(instance, image_id, error)
                self._put(self._unversioned, context, f"compute.{event}", payload, phase)
        except queue.Full:
            LOG.warning("%s of instance %s is not sent: too many wait", event, instance.uuid)
        except Exception:
            LOG.exception("%s of instance %s cannot be sent", event, instance.uuid)

    def close(self, timeout: float) -> None:
        """See :class:`Notifier`."""
        try:
            self._waiting.put(None, timeout=timeout)
        except queue.Full:
            pass
        else:
            self._thread.join(timeout)
        if self._thread.is_alive():
            LOG.warning("About %d notifications were not sent", self._waiting.qsize())

    def _put(
        self,
        notifier: oslo_messaging.Notifier,
        context: RequestContext,
        event: str,
        payload: notification_payloads.Payload,
        phase: Phase,
    ) -> None:
        send = notifier.error if phase is Phase.ERROR else notifier.info

        def task() -> None:
            send(context, event, payload)

        self._waiting.put_nowait(task)

    def _run(self) -> None:
        while (task := self._waiting.get()) is not None:
            try:
                task()
            except Exception:
                LOG.warning("A notification could not be sent", exc_info=True)


class ContextSerializer(oslo_messaging.NoOpSerializer):  # type: ignore[misc]
    """Contexts go out without what would let their readers act as the user."""

    def serialize_context(self, context: RequestContext) -> dict[str, Any]:
        """The context as a dictionary."""
        return {key: value for key, value in context.to_dict().items() if key not in _SECRETS}


def make(conf: cfg.ConfigOpts) -> Notifier:
    """What the configuration asks for: nothing, if it names no driver."""
    transport = oslo_messaging.get_notification_transport(conf)
    wanted = conf.notifications.notification_format
    if wanted == "none" or not conf.oslo_messaging_notifications.driver:
        return NoNotifications()
    versioned = unversioned = None
    if wanted in ("versioned", "both"):
        versioned = oslo_messaging.Notifier(
            transport,
            publisher_id=f"nova-snap-compute:{conf.host}",
            serializer=ContextSerializer(),
            topics=conf.notifications.versioned_notifications_topics,
        )
    if wanted in ("unversioned", "both"):
        unversioned = oslo_messaging.Notifier(
            transport, publisher_id=f"compute.{conf.host}", serializer=ContextSerializer()
        )
    return Notifications(versioned, unversioned)
