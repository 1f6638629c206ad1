# SPDX-License-Identifier: Apache-2.0
"""Images made of data that lie in a store of the image service already."""

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import glanceclient.exc
from oslo_log import log

from nova_snap import exception
from nova_snap.image import http

LOG = log.getLogger(__name__)

# No such request, not for this caller, or not by its configuration: another way may do.
_REFUSED: Final = (400, 403, 404, 405, 409, 501)
_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0

IMPORT_LOCK: Final = "os_glance_import_task"
"""A property that an image has while the image service is at work on it."""


def add(client: Any, image_id: str, url: str, seconds: float) -> Mapping[str, Any]:
    """Make an image in status ``queued`` active.

    First by ``POST /v2/images/<id>/locations``, which is for services (Image API 2.17), then by a
    patch of the record, which older versions allow with ``show_multiple_locations``.

    :param seconds: how long the image service may take for it.
    :returns: the record.
    :raises nova_snap.exception.ImageLocationRefused: if it wants neither.
    :raises nova_snap.exception.ImageServiceError: if it takes longer.
    """
    ways: Sequence[Callable[[Any, str, str], None]] = (http.add_location, _patch)
    refusals = []
    for way in ways:
        record = http.record(client, image_id)
        if record["status"] == "queued" and IMPORT_LOCK not in record:
            try:
                way(client, image_id, url)
            except glanceclient.exc.HTTPException as error:
                if error.code not in _REFUSED:
                    raise
                refusals.append(f"{error.code} {error.details or error}".strip())
                continue
        # Else a try before has done its work, and its answer was lost.
        record = _settled(client, image_id, seconds)
        if record["status"] == "active":
            return record
        refusals.append(_failure(client, image_id))
    raise exception.ImageLocationRefused(image_id=image_id, reason="; ".join(refusals))


def _patch(client: Any, image_id: str, url: str) -> None:
    change = {"op": "add", "path": "/locations/-", "value": {"url": url, "metadata": {}}}
    http.patch(client, image_id, [change])


def _settled(client: Any, image_id: str, seconds: float) -> Mapping[str, Any]:
    """The record when the image service has done what it does after its answer."""
    deadline = time.monotonic() + seconds
    pause = _PAUSE
    while True:
        record = http.record(client, image_id)
        if record["status"] == "active" or IMPORT_LOCK not in record:
            return record
        if time.monotonic() >= deadline:
            reason = (
                f"image {image_id} is still {record['status']} {seconds:g} s after its location"
            )
            raise exception.ImageServiceError(reason=reason)
        threading.Event().wait(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)


def _failure(client: Any, image_id: str) -> str:
    """What the image service says of the task that it could not do."""
    try:
        found = http.ask(client, "GET", f"/v2/images/{image_id}/tasks")
        said = [task.get("message") for task in found.get("tasks", ())]
    except (glanceclient.exc.BaseException, AttributeError, TypeError) as error:
        LOG.debug("The tasks of image %s are not shown: %s", image_id, error)
        said = []
    return next((text for text in reversed(said) if text), "the location was taken and dropped")
