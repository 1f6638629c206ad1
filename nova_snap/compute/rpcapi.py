# SPDX-License-Identifier: Apache-2.0
"""The compute service as other processes see it."""

from typing import Any

import oslo_messaging
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import rpc
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance


class ComputeAPI:
    """Sends messages to compute hosts.

    :param transport: from :func:`nova_snap.compute.rpc.get_transport`.
    """

    def __init__(self, conf: cfg.ConfigOpts, transport: oslo_messaging.Transport) -> None:
        self._client = oslo_messaging.get_rpc_client(
            transport,
            rpc.target(conf),
            serializer=rpc.RequestContextSerializer(),
            # A host that has never run has no queue: the broker says so instead of dropping it.
            transport_options=oslo_messaging.TransportOptions(at_least_once=True),
            retry=conf.rpc.send_retries,
        )

    def snapshot_instance(self, ctxt: RequestContext, instance: Instance, image_id: str) -> None:
        """Ask the instance's host to take a snapshot; returns when the message is with the broker.

        :param image_id: an image in status ``queued``, which the snapshot becomes.
        :raises nova_snap.exception.InstanceNotReady: if the instance has no host.
        :raises nova_snap.exception.MessagingUnavailable: if the message was not taken.
        """
        self._cast("1.0", ctxt, instance, "snapshot_instance", image_id=image_id)

    def backup_instance(
        self,
        ctxt: RequestContext,
        instance: Instance,
        image_id: str,
        backup_type: str,
        rotation: int,
    ) -> None:
        """Ask the instance's host to take a backup; returns when the message is with the broker.

        :param image_id: an image in status ``queued``, which the backup becomes.
        :param backup_type: what the backups are called that count for ``rotation``.
        :param rotation: how many of them are kept.
        :raises nova_snap.exception.NovaSnapError: as :meth:`snapshot_instance`.
        """
        self._cast(
            "1.1",
            ctxt,
            instance,
            "backup_instance",
            image_id=image_id,
            backup_type=backup_type,
            rotation=rotation,
        )

    def _cast(
        self,
        version: str,
        ctxt: RequestContext,
        instance: Instance,
        method: str,
        **arguments: Any,
    ) -> None:
        """:param version: the oldest one that has the method: a host that has not been upgraded
        yet still obeys."""
        host = instance.host
        if not host:
            raise exception.InstanceNotReady(instance_uuid=instance.uuid)
        cctxt = self._client.prepare(server=host, version=version)
        try:
            cctxt.cast(ctxt, method, instance=instance.uuid, **arguments)
        except oslo_messaging.MessageUndeliverable as error:
            reason = "no compute service has ever listened there"
            raise exception.MessagingUnavailable(host=host, reason=reason) from error
        except oslo_messaging.MessagingException as error:
            raise exception.MessagingUnavailable(host=host, reason=str(error)) from error
