# SPDX-License-Identifier: Apache-2.0
"""The volume service, and volumes that cannot be used."""

from nova_snap.exception.base import Forbidden, Invalid, NotFound, NovaSnapError


class VolumeNotFound(NotFound):
    volume_id: str
    msg = "Volume {self.volume_id} could not be found."


class VolumeSnapshotNotFound(NotFound):
    snapshot_id: str
    msg = "Volume snapshot {self.snapshot_id} could not be found."


class InvalidVolume(Invalid):
    """A volume, or a snapshot of one, whose state forbids what was asked."""

    reason: str
    msg = "Invalid volume: {self.reason}"


class VolumeSnapshotQuotaExceeded(Forbidden):
    """:ivar wanted: how many snapshots would have been made."""

    wanted: int
    used: int
    maximum: int
    msg = (
        "Quota exceeded for snapshots: {self.wanted} are needed, one for each volume, but "
        "{self.used} of {self.maximum} exist already"
    )


class VolumeQuotaExceeded(Forbidden):
    """The volume service's own word for it."""

    reason: str
    msg = "The volume service refused a snapshot: {self.reason}"


class VolumeForbidden(Forbidden):
    reason: str
    msg = "The volume service refused the request: {self.reason}"


class VolumeServiceError(NovaSnapError):
    reason: str
    msg = "The volume service answered with an error: {self.reason}"
    user_msg = "The volume service answered with an error."


class VolumeSnapshotFailed(VolumeServiceError):
    """:ivar status: that the snapshot has instead of ``available``."""

    volume_id: str
    snapshot_id: str
    status: str
    msg = (
        "Snapshot {self.snapshot_id} of volume {self.volume_id} is in status {self.status}: "
        "{self.reason}"
    )
    user_msg = "The volume service could not make a snapshot of volume {self.volume_id}."


class VolumeServiceUnavailable(VolumeServiceError):
    endpoint: str
    msg = "The volume service at {self.endpoint} cannot be reached: {self.reason}"
    user_msg = "The volume service cannot be reached; try again later."


class VolumeSnapshotTimeout(VolumeServiceError):
    seconds: float
    msg = "The snapshots of the volumes were not made within {self.seconds:g} s: {self.reason}"
    user_msg = "The volume service did not make the snapshots within {self.seconds:g} s."


class QuiesceFailed(NovaSnapError):
    """A guest that must be quiesced for its snapshot was not, or not for long enough."""

    instance_uuid: str
    reason: str
    msg = "Instance {self.instance_uuid} could not be quiesced: {self.reason}"


class VolumeSnapshotInterrupted(NovaSnapError):
    seconds: float
    msg = (
        "The API process that took a snapshot of a volume-backed server did not end it within "
        "{self.seconds:g} s."
    )
    user_msg = "The snapshot was not ended within {self.seconds:g} s; try again."
