# SPDX-License-Identifier: Apache-2.0
"""The images of one instant: that of the root disk, which was asked for, and those of the others.

A property ties them together. The root disk's image is the last that becomes active: when it is,
all of them are, and when it never will be, none of them is wanted.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from oslo_log import log

from nova_snap import context as nova_context
from nova_snap import exception
from nova_snap.compute import image_properties
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance

LOG = log.getLogger(__name__)


class Lister(Protocol):
    """The image service, as far as sets are looked for in it."""

    def get_all(
        self, context: RequestContext, filters: Mapping[str, str]
    ) -> Sequence[Mapping[str, Any]]:
        """Every image that has these attributes and properties."""


class Images(Protocol):
    """The image service, as far as sets are made in it."""

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""

    def create(self, context: RequestContext, image_meta: Mapping[str, Any]) -> Mapping[str, Any]:
        """Make a record in status ``queued``."""

    def add_member(self, context: RequestContext, image_id: str, project_id: str) -> None:
        """Let another project use a shared image."""

    def set_properties(
        self, context: RequestContext, image_id: str, properties: Mapping[str, str]
    ) -> Mapping[str, Any]:
        """Set properties, leaving the others alone."""


class FurtherImages:
    """Makes the records for an instance's other disks: see
    :class:`nova_snap.virt.driver.FurtherImages`.

    :param root_id: the image that was asked for.
    :param watch: told of each image that is made.
    """

    def __init__(
        self,
        context: RequestContext,
        images: Images,
        instance: Instance,
        root_id: str,
        watch: Callable[[str], None],
    ) -> None:
        self._context = context
        self._images = images
        self._instance = instance
        self._root_id = root_id
        self._watch = watch

    def create(self, root: str, others: Sequence[str]) -> Sequence[str]:
        """:raises nova_snap.exception.NovaSnapError: if there are no records to be had; those that
        were made are tied to the root disk's image already."""
        tie = {image_properties.SET: self._root_id, image_properties.SET_DISK: root}
        self._images.set_properties(self._context, self._root_id, tie)
        record = self._images.get(self._context, self._root_id)
        return [self._create(record, disk) for disk in others]

    def _create(self, root: Mapping[str, Any], disk: str) -> str:
        meta = image_properties.build_further(root, self._instance, disk, self._context)
        image_id: str = self._images.create(self._context, meta)["id"]
        LOG.info("Image %s is for disk %s of instance %s", image_id, disk, self._instance.uuid)
        self._watch(image_id)
        if meta["visibility"] == "shared":
            self._images.add_member(self._context, image_id, self._instance.project_id)
        return image_id


def is_in_set(image: Mapping[str, Any]) -> bool:
    """Whether an image is tied to others. :param image: its record."""
    return image.get(image_properties.SET) is not None


def find_further(images: Lister, context: RequestContext, root_id: str) -> list[str] | None:
    """The other images of the set of ``root_id``, which itself may be gone; ``None`` if nobody can
    tell whether there are any. Never raises.

    Where the user's token is not enough, the service's own has to be.
    """
    try:
        try:
            return _further(images, context, root_id)
        except exception.ImageForbidden as error:
            LOG.info("The images of the set %s: %s; the service itself asks", root_id, error)
            return _further(images, nova_context.get_admin_context(), root_id)
    except Exception as error:
        LOG.error(
            "Images whose property %s is %s cannot be looked for: %s",
            image_properties.SET,
            root_id,
            error,
            exc_info=not isinstance(error, exception.NovaSnapError),
        )
        return None


def _further(images: Lister, context: RequestContext, root_id: str) -> list[str]:
    found = images.get_all(context, {image_properties.SET: root_id})
    return [
        image["id"]
        for image in found
        # Looked at again: an image service that ignores a filter must not have its images deleted.
        if image.get(image_properties.SET) == root_id and image["id"] != root_id
    ]


def describe(images: Mapping[str, str], left_out: Mapping[str, str]) -> str:
    """For the record of the action: which image is of which disk.

    :param images: by disk. :param left_out: why other disks are in none, by disk.
    """
    parts = []
    if images:
        listed = ", ".join(f"{disk} {image_id}" for disk, image_id in images.items())
        parts.append(f"{len(images)} images: {listed}")
    if left_out:
        parts.append("left out: " + ", ".join(f"{disk} ({why})" for disk, why in left_out.items()))
    return "; ".join(parts)
