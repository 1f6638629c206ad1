# SPDX-License-Identifier: Apache-2.0
"""Every error that one room raises for another.

A class carries its data as attributes and formats its own message; none knows HTTP.

::

    NovaSnapError
    +-- NotFound
    |   +-- InstanceNotFound, ImageNotFound, DomainNotFound, DiskNotFound, MarkerNotFound,
    |   |   InstanceActionNotFound
    |   +-- ServiceNotFound, HostBinaryNotFound, ComputeHostNotFound, NoMatchingHypervisor,
    |   |   ImagePropertyNotFound, VolumeNotFound, VolumeSnapshotNotFound
    |   +-- FlavorNotFound, FlavorExtraSpecNotFound, MetadataItemNotFound, ConsoleNotAvailable
    +-- Conflict
    |   +-- InstanceInvalidState, UnexpectedTaskState, SnapshotReplaced, InstanceNotReady,
    |   |   AlreadyAdopted
    |   +-- FlavorExists, FlavorIdExists, InstanceBusy, ServiceHasInstances, HostDown
    +-- Invalid
    |   +-- InvalidTransition, InvalidImageProperty, InvalidFilter, InvalidInstancePrimitive,
    |   |   InvalidDomain, InvalidImageId, ImageUnacceptable
    |   +-- VolumeBackedUnsupported, VolumeBackedBackup, InvalidRotation, InvalidVolume
    |   +-- RequestedImageNotFound, ImageNotActive, FlavorMemoryTooSmall,
    |   |   FlavorDiskSmallerThanImage, FlavorDiskSmallerThanMinDisk
    +-- Forbidden
    |   +-- MetadataLimitExceeded, ServerMetadataLimitExceeded, ImageForbidden, QuotaExceeded,
    |   |   VolumeForbidden, VolumeQuotaExceeded, VolumeSnapshotQuotaExceeded
    +-- ImageServiceError
    |   +-- ImageServiceUnavailable, ImageRejected, ImageTooLarge, ImageConflict, ImageCorrupt,
    |   |   ImageLocationRefused
    +-- VolumeServiceError
    |   +-- VolumeServiceUnavailable, VolumeSnapshotFailed, VolumeSnapshotTimeout
    +-- IdentityError
    |   +-- IdentityServiceUnavailable, IdentityMisconfigured, NoCredentials, EndpointNotFound
    +-- MessagingUnavailable, RequestLost, NoValidHost, HostTaken, LifecycleInterrupted,
    |   LifecycleTimeout
    +-- HypervisorError
    |   +-- HypervisorUnavailable, LibvirtOperationFailed, WaitTimeout, HostStarved, StillSaving,
    |   |   AgentError, AgentUnresponsive, QuiesceUnsupported, QemuImgFailed, QemuNbdFailed,
    |   |   UnsafeDisk, DiskChanged, DiskUnwatched, SecretUnavailable,
    |   |   LogicalVolumeUnavailable, ToolsUserUnusable, DeviceError, DeviceKept, DeviceLost,
    |   |   BlockJobFailed, BackupJobFailed, ScratchFull, SocketDirectoryUnusable, HostDiskFull,
    |   |   FilesNotRemoved, DomainExists, HypervisorUnsupported, CephFailed, DirectUnavailable,
    |   |   FakeFailure
    +-- SpawnFailed, ImageSourceUnreadable
    +-- SnapshotFailed, SnapshotInterrupted, SnapshotMethodUnavailable, VolumeSnapshotInterrupted,
        QuiesceFailed
    +-- SnapshotDropped, SnapshotIncomplete, HostLost
    +-- SnapshotCancelled
    |   +-- SnapshotTimeout, ServiceStopping
"""

# ruff: noqa: F403
from nova_snap.exception.base import *
from nova_snap.exception.hypervisor import *
from nova_snap.exception.identity import *
from nova_snap.exception.images import *
from nova_snap.exception.instances import *
from nova_snap.exception.servers import *
from nova_snap.exception.snapshots import *
from nova_snap.exception.volumes import *
