# SPDX-License-Identifier: Apache-2.0
"""Rotation: of the backups of one type, the newest are kept."""

import dataclasses
from collections.abc import Container, Mapping, Sequence
from typing import Any, Final, Protocol

from oslo_log import log

from nova_snap import exception
from nova_snap.compute import image_properties
from nova_snap.context import RequestContext

LOG = log.getLogger(__name__)

EVENT: Final = "rotate_backups"
"""The name of the action's step."""


class Images(Protocol):
    """The image service, as far as rotation uses it."""

    def get_all(
        self, context: RequestContext, filters: Mapping[str, str]
    ) -> Sequence[Mapping[str, Any]]:
        """Every image that has these attributes and properties."""

    def delete(self, context: RequestContext, image_id: str) -> None:
        """:raises nova_snap.exception.ImageNotFound:"""


@dataclasses.dataclass(frozen=True)
class Rotation:
    """What a backup was asked to do with those before it.

    :ivar backup_type: which backups count, by the user's word for them, such as ``daily``.
    :ivar keep: how many of them stay, the new one included; with 0 it goes, too.
    """

    backup_type: str
    keep: int

    def check(self) -> None:
        """:raises nova_snap.exception.InvalidRotation: for what a message must not ask for."""
        if not isinstance(self.backup_type, str):
            raise exception.InvalidRotation(reason=f"backup_type is {self.backup_type!r:.60}")
        if type(self.keep) is not int or self.keep < 0:
            raise exception.InvalidRotation(reason=f"rotation is {self.keep!r:.60}")


@dataclasses.dataclass(frozen=True)
class Rotated:
    """:ivar deleted: ids of the images that are gone.
    :ivar left: ids of those that should be, and why they are not."""

    deleted: Sequence[str]
    left: Mapping[str, str]

    def __str__(self) -> str:
        parts = [f"backups deleted: {len(self.deleted)}"]
        parts += [f"image {image_id} stays: {reason}" for image_id, reason in self.left.items()]
        return "; ".join(parts)


def rotate_backups(
    context: RequestContext,
    image_api: Images,
    instance_uuid: str,
    image_id: str,
    rotation: Rotation,
    in_hand: Container[str] = (),
) -> Rotated:
    """Delete the oldest backups, those that are more than are to be kept.

    A backup of several disks is one backup, and goes as a whole. Only whole backups count, and
    only those of the project that asks: a record that an image service's failure left behind takes
    no good backup's place, and a property that somebody gave his image makes it no backup of this
    instance. An image that cannot be deleted is logged, and the others are deleted still.

    :param image_id: the backup that was just made. What is newer has a rotation of its own, which
        may be under way at the same time: it is left alone, and does not count.
    :param in_hand: images that this process still works for, which an equal time leaves alone.
    :raises nova_snap.exception.NovaSnapError: if the image service does not tell which there are.
    """
    wanted = {
        "image_type": image_properties.BACKUP,
        image_properties.BACKUP_TYPE: rotation.backup_type,
        "instance_uuid": instance_uuid,
        "owner": context.project_id or "",
        "status": "active",
    }
    found = image_api.get_all(context, wanted)
    # Looked at again: an image service that ignores a filter must not have its images deleted.
    images = [
        image for image in found if all(image.get(key) == value for key, value in wanted.items())
    ]
    backups = _up_to(image_id, [image for image in images if _is_root(image)], in_hand)
    LOG.info(
        "Instance %s has %d backups of type %s, %d are kept",
        instance_uuid,
        len(backups),
        rotation.backup_type,
        rotation.keep,
    )
    deleted: list[str] = []
    left: dict[str, str] = {}
    for backup in backups[rotation.keep :]:
        # The root disk's image is the last to go: as long as one of the others cannot be deleted,
        # the next rotation finds the backup again.
        for each in (*_further(images, backup), backup["id"]):
            reason = _delete(context, image_api, each)
            if reason is not None:
                left[each] = reason
                break
        else:
            deleted.append(backup["id"])
    return Rotated(deleted, left)


def _up_to(
    image_id: str, backups: Sequence[Mapping[str, Any]], in_hand: Container[str]
) -> Sequence[Mapping[str, Any]]:
    """A backup and those that are older, the newest first; none if it is not there itself: nobody
    can tell then which are older.

    The image service's times have whole seconds. Of two with the same, one whose own rotation is
    still to end may be the newer one.
    """
    own = next((image for image in backups if image["id"] == image_id), None)
    if own is None:
        LOG.warning("Backup %s is not among the backups that there are: none is deleted", image_id)
        return []

    def is_older(image: Mapping[str, Any]) -> bool:
        if image["created_at"] == own["created_at"]:
            return image["id"] != image_id and image["id"] not in in_hand
        return bool(image["created_at"] < own["created_at"])

    older = [image for image in backups if is_older(image)]
    older.sort(key=lambda image: (image["created_at"], image["id"]), reverse=True)
    return [own, *older]


def _is_root(image: Mapping[str, Any]) -> bool:
    """Whether it stands for a backup: what is of another disk does not count for itself."""
    return image.get(image_properties.SET) in (None, image["id"])


def _further(images: Sequence[Mapping[str, Any]], backup: Mapping[str, Any]) -> Sequence[str]:
    return [
        image["id"]
        for image in images
        if image.get(image_properties.SET) == backup["id"] and image["id"] != backup["id"]
    ]


def _delete(context: RequestContext, image_api: Images, image_id: str) -> str | None:
    """Why the image is still there; ``None`` if it is not."""
    try:
        image_api.delete(context, image_id)
    except exception.ImageNotFound:
        LOG.info("Backup %s is gone already", image_id)
    except exception.NovaSnapError as error:
        LOG.error("Backup %s cannot be deleted: %s", image_id, error)
        return error.for_user()
    return None
