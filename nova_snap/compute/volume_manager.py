# SPDX-License-Identifier: Apache-2.0
"""What a compute host does for snapshots of volume-backed servers: it holds their guests still,
and puts right what an API left that did not live to end one."""

from typing import Any, Final

import oslo_messaging
from oslo_config import cfg
from oslo_log import log

from nova_snap import exception
from nova_snap.compute import rpc, task_states, volume_leftovers
from nova_snap.compute.periodic import Periodic, guarded
from nova_snap.compute.recovery import ImageStore
from nova_snap.compute.volume_leftovers import VolumeLeftovers
from nova_snap.compute.volume_set import VolumeAPI
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects import primitive
from nova_snap.objects.instance import Instance
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

_LOOK_SECONDS: Final = 60.0
_UNFORESEEN: Final = "an unexpected error; the log of the compute host has it"


class VolumeManager:
    """The end of the messages that are about volume-backed servers.

    :param driver: connected by the time that messages come.
    :param volume_api: such as :class:`nova_snap.volume.cinder.API`.
    """

    target = oslo_messaging.Target(version=rpc.VERSION)

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        database: Database,
        image_api: ImageStore,
        volume_api: VolumeAPI,
        driver: ComputeDriver,
    ) -> None:
        self._host: str = conf.host
        self._one_process = str(conf.transport_url).startswith("fake:")
        self._database = database
        self._driver = driver
        # Instance and image. It is no more than a hint: the driver knows.
        self._frozen: set[tuple[str, str]] = set()
        self.leftovers = VolumeLeftovers(conf, image_api, volume_api)
        self._housekeeping = Periodic(database, _LOOK_SECONDS, self.leftovers.tasks())

    def init_host(self) -> None:
        """Before the other snapshots are recovered, of which these look like some."""
        if self._one_process:
            # The API died with this process.
            guarded(self._database, volume_leftovers.WHAT, self.leftovers.end_all)
        self._housekeeping.start()

    def stop(self) -> None:
        """End, when no message comes any more: nobody could tell that a guest is to be thawed."""
        self._housekeeping.stop()
        for uuid, image_id in list(self._frozen):
            LOG.warning("Instance %s is thawed before its snapshot is made", uuid)
            self._thaw(uuid, image_id)

    # -- messages --------------------------------------------------------------------------

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def quiesce_instance(
        self, context: RequestContext, instance: Any, image_id: str
    ) -> dict[str, Any]:
        """Freeze the file systems of an instance that is claimed for a snapshot.

        :param instance: see :func:`nova_snap.objects.primitive.instance_uuid`.
        :param image_id: of that snapshot. A message that comes late, or twice, does nothing.
        :returns: ``reason`` why it is not frozen, or ``None``; ``unsupported`` if it never will be.
        """
        try:
            # What else is in the message, such as passwords, is not for the log.
            uuid = primitive.instance_uuid(instance)
            image_id = primitive.image_id(image_id)
        except exception.Invalid as error:
            LOG.error("A message is not obeyed: %s", error)
            return {"unsupported": False, "reason": error.for_user()}
        try:
            found = self._find(context, uuid, image_id)
            self._driver.quiesce(found, image_id)
            self._frozen.add((found.uuid, image_id))
        except exception.QuiesceUnsupported as error:
            LOG.info("Instance %s is not quiesced: %s", uuid, error)
            return {"unsupported": True, "reason": error.reason}
        except exception.NovaSnapError as error:
            LOG.warning("Instance %s cannot be quiesced: %s", uuid, error)
            return {"unsupported": False, "reason": error.for_user()}
        except Exception:
            LOG.exception("Instance %s cannot be quiesced", uuid)
            return {"unsupported": False, "reason": _UNFORESEEN}
        LOG.info("Instance %s is quiesced for image %s", uuid, image_id)
        return {"unsupported": False, "reason": None}

    @oslo_messaging.expose  # type: ignore[untyped-decorator]
    def unquiesce_instance(
        self,
        context: RequestContext,  # noqa: ARG002 - every message has one
        instance: Any,
        image_id: str,
    ) -> dict[str, Any]:
        """Thaw what :meth:`quiesce_instance` froze.

        :returns: ``reason`` why it was not frozen until now, or ``None``.
        """
        try:
            uuid = primitive.instance_uuid(instance)
            image_id = primitive.image_id(image_id)
        except exception.Invalid as error:
            return {"reason": error.for_user()}
        return {"reason": self._thaw(uuid, image_id)}

    def _thaw(self, uuid: str, image_id: str) -> str | None:
        """Why it was not frozen until now."""
        self._frozen.discard((uuid, image_id))
        try:
            kept = self._driver.unquiesce(uuid, image_id)
        except exception.NovaSnapError as error:
            # The point in time was held; that the guest is thawed late is in the log of the host.
            LOG.error("Instance %s is not thawed yet: %s", uuid, error)
            return None
        except Exception:
            LOG.exception("Instance %s cannot be thawed", uuid)
            return _UNFORESEEN
        return None if kept else "its file systems were thawed before all snapshots were made"

    def _find(self, context: RequestContext, uuid: str, image_id: str) -> Instance:
        own = context.elevated()
        own.db = self._database
        found = Instance.get_by_uuid(own, uuid)
        claimed = (
            found.host == self._host
            and found.task_state == task_states.IMAGE_SNAPSHOT_PENDING
            and found.snapshot_image_id == image_id
        )
        if not claimed:
            reason = f"no snapshot to image {image_id} is being taken of it here"
            raise exception.QuiesceFailed(instance_uuid=found.uuid, reason=reason)
        return found
