# SPDX-License-Identifier: Apache-2.0
"""The snapshots of all the volumes of one server: all of them, or none."""

import threading
import time
from collections.abc import Sequence
from typing import Final, Protocol

from oslo_log import log

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.volume import model
from nova_snap.volume.model import Snapshot, SnapshotLimits, Volume

LOG = log.getLogger(__name__)

_NAME_LENGTH: Final = 255
_FIRST_PAUSE: Final = 0.2
_LONGEST_PAUSE: Final = 2.0
_LEAST_SECONDS: Final = 1.0

# For snapshots to be deleted: while somebody waits, and altogether.
_MOMENT_SECONDS: Final = 5.0
_LATER_SECONDS: Final = 1800.0
_LATER_PAUSE: Final = 10.0


class VolumeAPI(Protocol):
    """The volume service: see :class:`nova_snap.volume.cinder.API`."""

    def get_volume(self, context: RequestContext, volume_id: str) -> Volume:
        """:raises nova_snap.exception.VolumeNotFound:"""

    def get_snapshot_limits(self, context: RequestContext) -> SnapshotLimits:
        """How many snapshots the project may have."""

    def create_snapshot_force(
        self,
        context: RequestContext,
        volume_id: str,
        name: str,
        description: str | None,
        image_id: str,
        seconds: float,
    ) -> Snapshot:
        """Have a snapshot made of a volume that may be attached."""

    def get_snapshot(self, context: RequestContext, snapshot_id: str, seconds: float) -> Snapshot:
        """:raises nova_snap.exception.VolumeSnapshotNotFound:"""

    def snapshots_for_image(
        self, context: RequestContext, volume_id: str, image_id: str
    ) -> list[Snapshot]:
        """The snapshots of a volume that were made for an image."""

    def delete_snapshot(self, context: RequestContext, snapshot_id: str) -> None:
        """Have a snapshot deleted."""


class VolumeSet:
    """Snapshots that are made for one image.

    :param seconds: for all of them, from the first request to the last answer; they begin when
        :meth:`create` is called for the first time.
    """

    def __init__(
        self, volume_api: VolumeAPI, context: RequestContext, image_id: str, seconds: float
    ) -> None:
        self._volume_api = volume_api
        self._context = context
        self._image_id = image_id
        self._seconds = seconds
        self._until: float | None = None
        self._made: dict[str, Snapshot] = {}
        # Volumes of which there may be a snapshot that we do not know.
        self._unknown: set[str] = set()

    @property
    def by_volume(self) -> dict[str, str]:
        """The id of the snapshot of each volume."""
        return {volume_id: made.id for volume_id, made in self._made.items()}

    def create(self, volume: Volume, image_name: str) -> None:
        """Have a snapshot made of one volume.

        :raises nova_snap.exception.VolumeSnapshotTimeout: if there is no time left.
        :raises nova_snap.exception.NovaSnapError: as
            :meth:`nova_snap.volume.cinder.API.create_snapshot_force`.
        """
        seconds = self._left(f"volume {volume.id} was not reached")
        self._unknown.add(volume.id)
        try:
            made = self._volume_api.create_snapshot_force(
                self._context,
                volume.id,
                f"snapshot for {image_name}"[:_NAME_LENGTH],
                volume.description,
                self._image_id,
                seconds,
            )
        except exception.VolumeServiceError:
            raise
        except exception.VolumeNotFound as error:
            self._unknown.discard(volume.id)
            raise gone(volume.id) from error
        except exception.NovaSnapError:
            # It was refused: there is none.
            self._unknown.discard(volume.id)
            raise
        self._unknown.discard(volume.id)
        self._made[volume.id] = made
        LOG.info("Snapshot %s of volume %s is being made", made.id, volume.id)

    def wait(self) -> None:
        """Return when all of them are made.

        :raises nova_snap.exception.VolumeSnapshotFailed: if one ends in another status.
        :raises nova_snap.exception.VolumeSnapshotTimeout: if they take too long.
        """
        pause, woken = _FIRST_PAUSE, threading.Event()
        while creating := [made for made in self._made.values() if made.status == model.CREATING]:
            seconds = self._left(f"{len(creating)} are still being created")
            woken.wait(min(pause, seconds))
            pause = min(pause * 2, _LONGEST_PAUSE)
            for made in creating:
                self._look(made)
        for made in self._made.values():
            if made.status != model.AVAILABLE:
                raise _failed(made)

    def delete(self) -> None:
        """Delete all that were made: see :func:`discard`."""
        made, self._made = list(self._made.values()), {}
        discard(self._volume_api, self._context, sorted(self._unknown), self._image_id, made)

    def _look(self, made: Snapshot) -> None:
        seconds = self._left(f"snapshot {made.id} is still being created")
        try:
            found = self._volume_api.get_snapshot(self._context, made.id, seconds)
        except exception.VolumeServiceUnavailable as error:
            LOG.warning("Snapshot %s cannot be looked at: %s", made.id, error)
        except exception.VolumeSnapshotNotFound as error:
            raise exception.VolumeSnapshotFailed(
                volume_id=made.volume_id,
                snapshot_id=made.id,
                status="deleted",
                reason="somebody has deleted it",
            ) from error
        else:
            self._made[made.volume_id] = found

    def _left(self, what: str) -> float:
        """Seconds that are left."""
        if self._until is None:
            self._until = time.monotonic() + self._seconds
        left = self._until - time.monotonic()
        if left <= 0:
            raise exception.VolumeSnapshotTimeout(seconds=self._seconds, reason=what)
        return max(left, _LEAST_SECONDS)


def discard(
    volume_api: VolumeAPI,
    context: RequestContext,
    volume_ids: Sequence[str],
    image_id: str,
    known: Sequence[Snapshot] = (),
) -> None:
    """Delete what was made for an image that there will not be. Never raises.

    The volume service deletes no snapshot that it still makes, and may not answer. A thread of its
    own goes on with it for half an hour; nobody waits for that longer than a moment.

    :param volume_ids: whose snapshots for the image are looked for.
    :param known: those that need not be.
    """

    def work() -> None:
        context.update_store()
        left = list(known)
        for volume_id in volume_ids:
            left += _find(volume_api, context, volume_id, image_id)
        for made in _delete(volume_api, context, left):
            LOG.error(
                "Snapshot %s of volume %s is left behind: delete it by hand",
                made.id,
                made.volume_id,
            )

    thread = threading.Thread(target=work, name="delete-volume-snapshots", daemon=True)
    thread.start()
    thread.join(_MOMENT_SECONDS)
    if thread.is_alive():
        LOG.warning(
            "The snapshots of %s with nova_snap_image_id=%s are not deleted yet; it is tried for "
            "%.0f minutes, as long as this process runs",
            ", ".join(sorted({*volume_ids, *(made.volume_id for made in known)})),
            image_id,
            _LATER_SECONDS / 60,
        )


def gone(volume_id: str) -> exception.InvalidVolume:
    """The error for a volume of a server that the volume service does not have: it is not what
    the user asked for that is not found."""
    return exception.InvalidVolume(reason=f"volume {volume_id} could not be found")


def _delete(
    volume_api: VolumeAPI, context: RequestContext, snapshots: list[Snapshot]
) -> list[Snapshot]:
    """Try until all of them are being deleted.

    :returns: those that are not when the time is over.
    """
    until, pause, woken = time.monotonic() + _LATER_SECONDS, _FIRST_PAUSE, threading.Event()
    left = snapshots
    while left := [made for made in left if not _is_deleted(volume_api, context, made)]:
        if time.monotonic() > until:
            break
        woken.wait(pause)
        pause = min(pause * 2, _LATER_PAUSE)
    return left


def _is_deleted(volume_api: VolumeAPI, context: RequestContext, made: Snapshot) -> bool:
    """Whether it is on its way."""
    try:
        volume_api.delete_snapshot(context, made.id)
    except exception.InvalidVolume:
        return False
    except Exception as error:
        foreseen = isinstance(error, exception.NovaSnapError)
        LOG.warning("Snapshot %s cannot be deleted: %s", made.id, error, exc_info=not foreseen)
        return False
    return True


def _find(
    volume_api: VolumeAPI, context: RequestContext, volume_id: str, image_id: str
) -> list[Snapshot]:
    try:
        return volume_api.snapshots_for_image(context, volume_id, image_id)
    except Exception as error:
        LOG.error(
            "Snapshots of volume %s for image %s may be left behind: they cannot be looked for: %s",
            volume_id,
            image_id,
            error,
            exc_info=not isinstance(error, exception.NovaSnapError),
        )
        return []


def _failed(made: Snapshot) -> exception.VolumeSnapshotFailed:
    return exception.VolumeSnapshotFailed(
        volume_id=made.volume_id,
        snapshot_id=made.id,
        status=made.status,
        reason="the volume service's log says why",
    )
