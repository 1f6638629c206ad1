# SPDX-License-Identifier: Apache-2.0
"""What is being done to an instance at this moment. Names are Nova's; ``None`` is "nothing"."""

from typing import Final

IMAGE_SNAPSHOT_PENDING: Final = "image_snapshot_pending"
"""The API has accepted a createImage; the compute service has not begun."""

IMAGE_SNAPSHOT: Final = "image_snapshot"
"""The compute service prepares the snapshot or waits for a free slot."""

IMAGE_PENDING_UPLOAD: Final = "image_pending_upload"
"""The method has begun to take the disk's content; nothing was sent to the image service yet."""

IMAGE_UPLOADING: Final = "image_uploading"
"""The image is being sent to the image service."""

IMAGE_BACKUP: Final = "image_backup"
"""The API has accepted a createBackup; the compute service has not begun."""

DELETING: Final = "deleting"
"""The instance is being deleted; no snapshot may start, and one that runs must end."""

SNAPSHOT_STATES: Final = (
    IMAGE_SNAPSHOT_PENDING,
    IMAGE_SNAPSHOT,
    IMAGE_PENDING_UPLOAD,
    IMAGE_UPLOADING,
    IMAGE_BACKUP,
)
"""Every state that belongs to a snapshot or a backup."""

ALL: Final = (*SNAPSHOT_STATES, DELETING)
