# SPDX-License-Identifier: Apache-2.0
"""What no snapshot can be faster than: the finished bytes, sent to Glance from a file."""

from __future__ import annotations

import time
from pathlib import Path

import requests

from benchmarks import upload
from tools._demo.errors import ServiceLost


def measure(glance_url: str, path: Path, disk_format: str) -> float:
    """Send a file to an image of its own, which is deleted again.

    :returns: seconds from the order to make the record to the active image.
    :raises ServiceLost: if Glance does not take it.
    """
    images = f"{glance_url}/v2/images"
    record = {"name": "bare upload", "disk_format": disk_format, "container_format": "bare"}
    began = time.monotonic()
    try:
        answer = requests.post(images, json=record, timeout=upload.SECONDS)
        answer.raise_for_status()
        image_id = answer.json()["id"]
        upload.bare(glance_url, image_id, path)
        seconds = time.monotonic() - began
        requests.delete(f"{images}/{image_id}", timeout=upload.SECONDS).raise_for_status()
    except requests.RequestException as error:
        raise ServiceLost("Glance", str(error)) from error
    return seconds
