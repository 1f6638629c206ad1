# SPDX-License-Identifier: Apache-2.0
"""A snapshot from the plan to the last image's last byte."""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from oslo_config import cfg
from oslo_log import log as logging

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.virt import driver
from nova_snap.virt.libvirt import (
    domain_xml,
    imagebackend,
    qemu_img,
    quiesce,
    secrets,
    snapshot_metadata,
)
from nova_snap.virt.libvirt.guest import Guest
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.snapshot import direct_target, workdir
from nova_snap.virt.libvirt.snapshot import plan as plans
from nova_snap.virt.libvirt.snapshot.base import (
    Content,
    ImageRequest,
    Location,
    Point,
    Request,
    SnapshotMethod,
)
from nova_snap.virt.libvirt.snapshot.direct import Direct
from nova_snap.virt.libvirt.snapshot.managed_save import ManagedSave
from nova_snap.virt.libvirt.snapshot.meanwhile import Meanwhile
from nova_snap.virt.libvirt.snapshot.methods import Method
from nova_snap.virt.libvirt.snapshot.mirror import Mirror
from nova_snap.virt.libvirt.snapshot.offline import Offline
from nova_snap.virt.libvirt.snapshot.plan import Plan
from nova_snap.virt.libvirt.snapshot.progress import Progress, parts
from nova_snap.virt.libvirt.snapshot.stream import Stream

LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Order:
    """What the driver was asked for.

    :ivar image_id: an image in status ``queued``, for the root disk.
    :ivar further_images: makes those of the other disks; ``None`` where only that one is wanted.
    """

    context: nova_context.RequestContext
    instance: driver.InstanceLike
    image_id: str
    progress: Progress
    further_images: driver.FurtherImages | None = None


class Taking:
    """Takes snapshots of one libvirt's guests."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        host: Host,
        tool: qemu_img.QemuImg,
        image_api: driver.ImageUploader,
    ) -> None:
        self._conf = conf
        self._host = host
        self._tool = tool
        self._image_api = image_api

    def take(self, order: Order, guest: Guest) -> driver.SnapshotReport:
        """:raises nova_snap.exception.NovaSnapError: if it fails; nothing is left behind then, but
        the image's record."""
        instance = order.instance
        base = self._base_image(order.context, instance)
        record = self._image_api.get(order.context, order.image_id)
        policy = quiesce.Policy.from_properties(instance.image_properties)
        plan = self._plan(order, guest, policy, functools.partial(self._target, order, base))
        try:
            return self._carry_out(order, guest, plan, base, record)
        except (exception.DirectUnavailable, exception.ImageLocationRefused) as exc:
            if self._conf.libvirt.snapshot_method == Method.DIRECT:
                raise
            order.progress.monitor.check()
            LOG.warning("Snapshot %s is taken in another way: %s", order.image_id, exc)
            find_target = _nowhere(str(exc))
        plan = self._plan(order, guest, policy, find_target)
        # What else it holds may be of the first try.
        return self._carry_out(order, guest, plan, base, {"name": record["name"]})

    def _carry_out(
        self,
        order: Order,
        guest: Guest,
        plan: Plan,
        base: Mapping[str, Any],
        record: Mapping[str, Any],
    ) -> driver.SnapshotReport:
        """:param base: the record of the image that the instance was made from.

        :param record: of the new image: its name, and what need not be set any more.
        """
        instance, choice, root = order.instance, plan.choice, plan.disks[0]
        order.progress.method = choice.method.value
        LOG.info(
            "Snapshot %s of instance %s by method %s: %s",
            order.image_id, instance.uuid, choice.method, choice.reason,
        )  # fmt: skip
        metadata = snapshot_metadata.missing(
            snapshot_metadata.create(base, instance, root.image_format, record["name"]), record
        )
        further = self._further_images(order, plan)
        missing, wait = self._describe(order, plan, metadata)
        with self._point(order, guest, plan) as point:
            wait()
            order.progress.upload()
            sent = self._send_further(order, plan, further, point.contents[1:])
            # The last one: when the image that was asked for is active, all of them are.
            if further:
                order.progress.where = f"disk {root.disk.target}: "
            sent += self._send(order, order.image_id, missing, point.contents[0])
            temp_bytes = point.temp_bytes()
        return driver.SnapshotReport(
            method=choice.method.value,
            reason=choice.reason,
            image_format=root.image_format,
            uploaded_bytes=sent,
            quiesced=point.quiesced,
            temp_bytes=temp_bytes,
            warnings=order.progress.warnings,
            images={root.disk.target: order.image_id, **further} if further else {},
            left_out=plan.left_out,
        )

    def _plan(
        self, order: Order, guest: Guest, policy: quiesce.Policy, find_target: plans.FindTarget
    ) -> Plan:
        all_disks = self._conf.libvirt.snapshot_all_disks and order.further_images is not None
        return plans.make(
            self._conf, self._host.capabilities(), guest, policy, find_target, all_disks=all_disks
        )

    def _further_images(self, order: Order, plan: Plan) -> Mapping[str, str]:
        """A record for each disk besides the root disk, by its target."""
        root, *others = [each.disk.target for each in plan.disks]
        if order.further_images is None or not others:
            return {}
        image_ids = order.further_images.create(root, others)
        return dict(zip(others, image_ids, strict=True))

    def _base_image(
        self, context: nova_context.RequestContext, instance: driver.InstanceLike
    ) -> Mapping[str, Any]:
        """The image that the instance was made from, which may be long gone."""
        if not instance.image_ref:
            return {}
        try:
            return self._image_api.get(context, instance.image_ref)
        except (exception.ImageNotFound, exception.ImageForbidden) as exc:
            LOG.info("The base image of instance %s is not used: %s", instance.uuid, exc)
            return {}

    def _target(
        self, order: Order, base: Mapping[str, Any], disk: domain_xml.Disk, image_format: str
    ) -> direct_target.Target:
        return direct_target.find(self._conf, disk, order.image_id, image_format, base)

    # -- the point in time -----------------------------------------------------------------

    @contextlib.contextmanager
    def _point(self, order: Order, guest: Guest, plan: Plan) -> Iterator[Point]:
        """The disks as of one instant, by the method of the plan."""
        with self._temporary(order.instance, guest, plan) as directory:
            request = self._request(order.progress, guest, plan, directory)
            with self._method(plan).open(request) as point:
                yield point

    def _request(
        self, progress: Progress, guest: Guest, plan: Plan, directory: workdir.WorkDir
    ) -> Request:
        compress = self._conf.libvirt.snapshot_compression in ("zlib", "zstd")
        monitors = parts(progress.monitor, len(plan.disks))
        return Request(
            guest=guest,
            domain=plan.domain,
            power_state=plan.facts.power_state,
            images=[
                ImageRequest(
                    disk=each.disk,
                    backend=imagebackend.snapshot_backend(
                        each.disk, self._tool, compress, secrets.libvirt_lookup(self._host)
                    ),
                    image_format=each.image_format,
                    monitor=monitor,
                )
                for each, monitor in zip(plan.disks, monitors, strict=True)
            ],
            workdir=directory,
            begin=progress.begin,
            quiesce=plan.quiesce,
            quiesce_required=plan.quiesce_required,
            monitor=progress.monitor,
            warn=progress.warnings.append,
        )

    @contextlib.contextmanager
    def _temporary(
        self, instance: driver.InstanceLike, guest: Guest, plan: Plan
    ) -> Iterator[workdir.WorkDir]:
        """The snapshot's directory, gone in every outcome in which its guest is right again."""
        directory = workdir.create(
            self._conf.libvirt.snapshots_directory, instance.uuid, self._conf.host
        )
        try:
            directory.note(
                domain=guest.name,
                domain_uuid=guest.uuid,
                domain_id=guest.number(),
                method=plan.choice.method.value,
                disk=plan.disks[0].disk.target,
                power_state=plan.facts.power_state,
            )
            yield directory
        finally:
            directory.close()

    def _method(self, plan: Plan) -> SnapshotMethod:
        if plan.choice.method is Method.DIRECT:
            assert plan.direct is not None  # noqa: S101 - for the type checker
            return Direct(self._conf, self._host.capabilities(), plan.direct)
        capabilities = self._host.capabilities()
        made: Mapping[Method, Callable[[], SnapshotMethod]] = {
            Method.STREAM: lambda: Stream(self._conf, self._tool, capabilities),
            Method.OFFLINE: lambda: Offline(self._conf),
            Method.MANAGED_SAVE: lambda: ManagedSave(self._conf),
            Method.MIRROR: lambda: Mirror(self._conf, self._host, self._tool, capabilities),
        }
        return made[plan.choice.method]()

    # -- the images ------------------------------------------------------------------------

    def _describe(
        self, order: Order, plan: Plan, metadata: Mapping[str, Any]
    ) -> tuple[Mapping[str, Any], Callable[[], None]]:
        """Have the record of the root disk's image say what is known before there is a byte of it:
        the image service takes as long for that as the whole point in time does.

        :returns: what is to be set yet, and what waits until the rest was.
        """
        if plan.choice.method is Method.DIRECT or not metadata:
            # After the direct way another one, with another format, may follow.
            return metadata, lambda: None

        def set_properties() -> None:
            order.context.update_store()
            self._image_api.update(order.context, order.image_id, metadata)

        described = Meanwhile(set_properties, "describe-image")
        return {}, lambda: described.wait(order.progress.monitor.check)

    def _send_further(
        self,
        order: Order,
        plan: Plan,
        image_ids: Mapping[str, str],
        contents: Sequence[Content | Location],
    ) -> int:
        """Send the images of all disks but the root disk, one after the other.

        :returns: how many bytes they have.
        """
        sent = 0
        for each, content in zip(plan.disks[1:], contents, strict=True):
            target = each.disk.target
            order.progress.where = f"disk {target}: "
            metadata = snapshot_metadata.further(
                order.instance, each.image_format, content.disk_size
            )
            LOG.info("Disk %s goes to image %s", target, image_ids[target])
            sent += self._send(order, image_ids[target], metadata, content)
        return sent

    def _send(
        self, order: Order, image_id: str, metadata: Mapping[str, Any], content: Content | Location
    ) -> int:
        """:param metadata: what the record does not have yet.

        :returns: how many bytes were sent.
        """
        order.progress.monitor.check()
        if isinstance(content, Location):
            self._image_api.add_location(order.context, image_id, content.url, metadata)
            return 0
        self._image_api.update(
            order.context, image_id, metadata, content.data, content.size,
            on_cancel=order.progress.monitor.on_cancel,
        )  # fmt: skip
        return content.data.tell()


def _nowhere(reason: str) -> plans.FindTarget:
    """For a plan that is made after it has turned out to be impossible."""

    def find_target(_disk: domain_xml.Disk, _image_format: str) -> direct_target.Target:
        raise exception.DirectUnavailable(reason=reason)

    return find_target
