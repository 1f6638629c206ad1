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

SCHEDULING: Final = "scheduling"
"""The API has accepted a new server; its host has not begun."""

SPAWNING: Final = "spawning"
"""The host makes the guest."""

POWERING_ON: Final = "powering-on"
POWERING_OFF: Final = "powering-off"
PAUSING: Final = "pausing"
UNPAUSING: Final = "unpausing"
SUSPENDING: Final = "suspending"
RESUMING: Final = "resuming"

REBOOTING: Final = "rebooting"
"""The API has accepted a soft reboot."""

REBOOT_STARTED: Final = "reboot_started"
"""The host reboots the guest softly."""

REBOOTING_HARD: Final = "rebooting_hard"
REBOOT_STARTED_HARD: Final = "reboot_started_hard"

DELETING: Final = "deleting"
"""The instance is being deleted; nothing else may start, and what runs must end."""

SNAPSHOT_STATES: Final = (
    IMAGE_SNAPSHOT_PENDING,
    IMAGE_SNAPSHOT,
    IMAGE_PENDING_UPLOAD,
    IMAGE_UPLOADING,
    IMAGE_BACKUP,
)
"""Every state that belongs to a snapshot or a backup."""

BUILD_STATES: Final = (SCHEDULING, SPAWNING)
"""Every state that belongs to a new server."""

REBOOT_STATES: Final = (REBOOTING, REBOOT_STARTED, REBOOTING_HARD, REBOOT_STARTED_HARD)

POWER_STATES: Final = (
    POWERING_ON,
    POWERING_OFF,
    PAUSING,
    UNPAUSING,
    SUSPENDING,
    RESUMING,
    *REBOOT_STATES,
)
"""Every state that belongs to a guest being switched."""

ALL: Final = (*SNAPSHOT_STATES, *BUILD_STATES, *POWER_STATES, DELETING)
