# SPDX-License-Identifier: Apache-2.0
"""What a client reads when the snapshot of a volume-backed server fails."""

import json

import pytest

from nova_snap import exception
from nova_snap.volume.model import SnapshotLimits
from tests.functional.api import service as svc
from tests.functional.api.service import Service

ENDPOINT = "http://10.0.0.7:8776/v3"


@pytest.mark.parametrize(
    ("method", "error", "code", "words"),
    [
        (
            "get_snapshot_limits",
            exception.VolumeServiceUnavailable(endpoint=ENDPOINT, reason="refused"),
            503,
            "The volume service cannot be reached; try again later.",
        ),
        (
            "get_volume",
            exception.VolumeServiceError(reason=f"500 from {ENDPOINT}"),
            502,
            "The volume service answered with an error.",
        ),
        (
            "get_volume",
            exception.VolumeNotFound(volume_id=svc.VOLUME),
            400,
            f"Invalid volume: volume {svc.VOLUME} could not be found",
        ),
        ("get_volume", exception.VolumeForbidden(reason="no"), 403, "The volume service refused"),
        (
            "create_snapshot_force",
            exception.VolumeQuotaExceeded(reason="gigabytes"),
            403,
            "The volume service refused a snapshot: gigabytes",
        ),
        (
            "create_snapshot_force",
            exception.InvalidVolume(reason="its status"),
            400,
            "Invalid volume: its status",
        ),
        (
            "create_snapshot_force",
            exception.VolumeSnapshotTimeout(seconds=60.0, reason=f"at {ENDPOINT}"),
            503,
            "The volume service did not make the snapshots within 60 s.",
        ),
        (
            "get_volume",
            exception.EndpointNotFound(
                group="cinder", service_type="t", service_name=None, interface="i", region_name="r"
            ),
            500,
            "The reason is in the service's log",
        ),
        ("get_volume", RuntimeError(f"password at {ENDPOINT}"), 500, "Unexpected API error."),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_errors(service: Service, method: str, error: Exception, code: int, words: str) -> None:
    service.volumes.fail[method] = error
    response = service.create_image(svc.VOLUME_BACKED, version="2.45")
    assert response.status_int == code, response.text
    (fault,) = response.json.values()
    assert fault["code"] == code
    assert words in fault["message"]
    assert "10.0.0.7" not in response.text
    assert service.images.records == {}
    assert service.volumes.snapshots == {}
    shown = service.get(f"/v2.1/servers/{svc.VOLUME_BACKED}").json["server"]
    assert shown["OS-EXT-STS:task_state"] is None


def test_over_quota(service: Service) -> None:
    service.volumes.limits = SnapshotLimits(3, 3)
    response = service.create_image(svc.VOLUME_BACKED)
    assert response.status_int == 403
    assert response.json["forbidden"]["message"] == (
        "Quota exceeded for snapshots: 1 are needed, one for each volume, but 3 of 3 exist already"
    )


def test_the_image(service: Service) -> None:
    response = service.create_image(svc.VOLUME_BACKED, version="2.45")
    assert response.status_int == 202
    image = service.images.records[response.json["image_id"]]
    (disk,) = json.loads(image["block_device_mapping"])
    assert (image["status"], image["size"]) == ("active", 0)
    assert service.volumes.snapshots[disk["snapshot_id"]].volume_id == svc.VOLUME
