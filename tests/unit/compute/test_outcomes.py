# SPDX-License-Identifier: Apache-2.0
"""What an ended snapshot is counted as."""

import pytest

from nova_snap import exception
from nova_snap.compute import outcomes

FULL = exception.ScratchFull(path="/var", free_mib=1, reserve_mib=2)
GONE = exception.ImageNotFound(image_id="an-image")


def failed(cause: Exception) -> exception.SnapshotFailed:
    facts = {"method": "stream", "phase": "image_uploading", "reason": str(cause), "warnings": ()}
    error = exception.SnapshotFailed(instance_uuid="i", image_id="an-image", **facts)
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (failed(FULL), "ScratchFull"),
        (FULL, "ScratchFull"),
        (GONE, "cancelled"),
        (failed(GONE), "cancelled"),
        (failed(ZeroDivisionError()), "unforeseen"),
        (exception.ServiceStopping(), "ServiceStopping"),
    ],
)
def test_name(error: Exception, name: str) -> None:
    assert outcomes.name_of(error) == name
