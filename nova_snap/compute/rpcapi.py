# SPDX-License-Identifier: Apache-2.0
"""The compute service as other processes see it."""

import functools
from concurrent import futures
from typing import Any, Final

import oslo_messaging
from kombu import exceptions as kombu_exceptions
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import rpc
from nova_snap.compute.power_actions import PowerAction
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance

# What sending takes, besides waiting for the answer.
_SLACK_SECONDS: Final = 2.0

# Of calls that hang, with a thread each, until RabbitMQ is back.
_MOST_HANGING: Final = 16

# A driver that makes one more connection lets the library's own error through.
_UNREACHABLE = (oslo_messaging.MessagingException, kombu_exceptions.KombuError, OSError)


class ComputeAPI:
    """Sends messages to compute hosts.

    Each method returns when the message is with the broker, and raises
    :class:`nova_snap.exception.InstanceNotReady` if the instance has no host,
    :class:`nova_snap.exception.MessagingUnavailable` if the message was not taken.

    :param transport: from :func:`nova_snap.compute.rpc.get_transport`.
    """

    def __init__(self, conf: cfg.ConfigOpts, transport: oslo_messaging.Transport) -> None:
        self._call_timeout: int = conf.rpc.call_timeout
        self._calls = rpc.Calls(_MOST_HANGING)
        self._client = oslo_messaging.get_rpc_client(
            transport,
            rpc.target(conf),
            serializer=rpc.RequestContextSerializer(),
            # A host that has never run has no queue: the broker says so instead of dropping it.
            transport_options=oslo_messaging.TransportOptions(at_least_once=True),
            retry=conf.rpc.send_retries,
        )

    def snapshot_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        """Ask the instance's host to take a snapshot.

        :param image_id: an image in status ``queued``, which the snapshot becomes.
        """
        self._cast(ctxt, instance, "snapshot_instance", "1.0", image_id=image_id)

    def backup_instance(
        self,
        ctxt: RequestContext,
        instance: Instance,
        image_id: str,
        backup_type: str,
        rotation: int,
    ) -> None:
        """Ask the instance's host to take a backup.

        :param image_id: an image in status ``queued``, which the backup becomes.
        :param backup_type: what the backups are called that count for ``rotation``.
        :param rotation: how many of them are kept.
        """
        self._cast(
            ctxt,
            instance,
            "backup_instance",
            "1.1",
            image_id=image_id,
            backup_type=backup_type,
            rotation=rotation,
        )

    def build_instance(self, ctxt: RequestContext, instance: Instance, network: str) -> None:
        """Ask the instance's host to make it, which is in task_state scheduling.

        :param network: see :class:`nova_snap.compute.server_request.ServerRequest`.
        """
        self._cast(ctxt, instance, "build_instance", "1.1", network=network)

    def terminate_instance(self, ctxt: RequestContext, instance: Instance) -> None:
        """Ask the instance's host to remove it, which is in task_state deleting."""
        self._cast(ctxt, instance, "terminate_instance", "1.1")

    def switch_instance(
        self, ctxt: RequestContext, instance: Instance, action: PowerAction
    ) -> None:
        """Ask the instance's host for the action that its task_state announces."""
        self._cast(ctxt, instance, action.method, "1.1")

    def get_console_output(
        self, ctxt: RequestContext, instance: Instance, length: int | None
    ) -> str:
        """The last ``length`` lines of the guest's console; ``None`` for all that is kept.

        :raises nova_snap.exception.ConsoleNotAvailable: if there are none to be had.
        :raises nova_snap.exception.MessagingUnavailable: also if no answer comes in time.
        """
        answer = self._call(ctxt, instance, "get_console_output", "1.1", length=length)
        if answer["output"] is None:
            raise exception.ConsoleNotAvailable(
                instance_uuid=instance.uuid, reason=answer["reason"]
            )
        return str(answer["output"])

    def quiesce_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        """Have the instance's host freeze the guest's file systems, until
        :meth:`unquiesce_instance`; after ``[libvirt] quiesce_timeout`` the host thaws them itself.

        :param image_id: which snapshot it is for: the instance's ``snapshot_image_id``.
        :raises nova_snap.exception.QuiesceUnsupported: if it cannot be done. Nothing is frozen.
        :raises nova_snap.exception.QuiesceFailed: if it failed. They are being thawed.
        :raises nova_snap.exception.MessagingUnavailable: also if no answer comes in time: they may
            be frozen.
        """
        try:
            answer = self._call(ctxt, instance, "quiesce_instance", "1.2", image_id=image_id)
        except exception.MessagingUnavailable as error:
            if _is_too_old(error.__cause__):
                raise exception.QuiesceUnsupported(
                    domain=instance.name, reason="its compute service is of an older version"
                ) from error
            raise
        if answer["unsupported"]:
            raise exception.QuiesceUnsupported(domain=instance.name, reason=answer["reason"])
        if answer["reason"] is not None:
            raise exception.QuiesceFailed(instance_uuid=instance.uuid, reason=answer["reason"])

    def unquiesce_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        """Have the guest's file systems thawed, which were frozen for that snapshot.

        :raises nova_snap.exception.QuiesceFailed: if they were thawed before.
        :raises nova_snap.exception.MessagingUnavailable: also if no answer comes in time.
        """
        answer = self._call(ctxt, instance, "unquiesce_instance", "1.2", image_id=image_id)
        if answer["reason"] is not None:
            raise exception.QuiesceFailed(instance_uuid=instance.uuid, reason=answer["reason"])

    def abandon_quiesce(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        """The same, for a snapshot that has failed: nobody waits for the answer."""
        self._cast(ctxt, instance, "unquiesce_instance", "1.2", image_id=image_id)

    def _call(
        self, ctxt: RequestContext, instance: Instance, method: str, version: str, **kwargs: Any
    ) -> dict[str, Any]:
        """Ask the instance's host something and wait for the answer."""
        host = self._host_of(instance)
        cctxt = self._client.prepare(server=host, version=version, timeout=self._call_timeout)
        call = functools.partial(cctxt.call, ctxt, method, instance=instance.uuid, **kwargs)
        try:
            answer: dict[str, Any] = self._calls.within(self._call_timeout + _SLACK_SECONDS, call)
        except (oslo_messaging.MessagingTimeout, futures.TimeoutError) as error:
            reason = f"no answer within {self._call_timeout} s"
            raise exception.MessagingUnavailable(host=host, reason=reason) from error
        except rpc.TooManyCalls as error:
            reason = f"{error}: RabbitMQ does not answer"
            raise exception.MessagingUnavailable(host=host, reason=reason) from error
        except (*_UNREACHABLE, oslo_messaging.RemoteError) as error:
            raise exception.MessagingUnavailable(host=host, reason=str(error)) from error
        return answer

    def _cast(
        self, ctxt: RequestContext, instance: Instance, method: str, version: str, **kwargs: Any
    ) -> None:
        host = self._host_of(instance)
        # The version that brought the method: a host that is not upgraded yet knows the older ones.
        cctxt = self._client.prepare(server=host, version=version)
        try:
            cctxt.cast(ctxt, method, instance=instance.uuid, **kwargs)
        except oslo_messaging.MessageUndeliverable as error:
            reason = "no compute service has ever listened there"
            raise exception.MessagingUnavailable(host=host, reason=reason) from error
        except _UNREACHABLE as error:
            raise exception.MessagingUnavailable(host=host, reason=str(error)) from error

    @staticmethod
    def _host_of(instance: Instance) -> str:
        if not instance.host:
            raise exception.InstanceNotReady(instance_uuid=instance.uuid)
        return instance.host


def _is_too_old(error: BaseException | None) -> bool:
    """Whether a host refused a message because it does not know its version."""
    if isinstance(error, oslo_messaging.RemoteError):
        return bool(error.exc_type == oslo_messaging.UnsupportedVersion.__name__)
    return isinstance(error, oslo_messaging.UnsupportedVersion | oslo_messaging.RPCVersionCapError)
