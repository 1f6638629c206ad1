# SPDX-License-Identifier: Apache-2.0
"""Whether the image service holds what it was sent: its word that it took it is not enough."""

import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from nova_snap import exception
from nova_snap.image.upload import Body

GONE: Final = ("deleted", "pending_delete")
"""Statuses of an image that somebody has deleted."""

_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 2.0


def wait_active(
    look: Callable[[], Mapping[str, Any]], image_id: str, seconds: float, end: threading.Event
) -> Mapping[str, Any]:
    """The record of an image whose data were taken, when it is active: another server of the image
    service may hear of that a moment later.

    :param look: reads the record.
    :param seconds: how long to wait.
    :param end: set when nobody wants the image any more.
    :raises nova_snap.exception.ImageNotFound: if somebody has deleted it.
    :raises nova_snap.exception.ImageRejected: if it does not become active.
    """
    deadline = time.monotonic() + seconds
    pause = _FIRST_PAUSE
    while True:
        record = look()
        status = record["status"]
        if status == "active":
            return record
        if status in GONE:
            raise exception.ImageNotFound(image_id=image_id)
        if status == "killed" or time.monotonic() >= deadline or end.wait(pause):
            reason = f"it is {status} although all of its data were taken, and never became active"
            raise exception.ImageRejected(image_id=image_id, reason=reason)
        pause = min(2 * pause, _LONGEST_PAUSE)


def compare(record: Mapping[str, Any], body: Body) -> None:
    """Compare what an active image holds with what was sent.

    :raises nova_snap.exception.ImageRejected: if that differs, or nothing can be compared.
    """
    reason = _difference(record, body)
    if reason is not None:
        raise exception.ImageRejected(image_id=record["id"], reason=reason)


def _difference(record: Mapping[str, Any], body: Body) -> str | None:
    size, held, sent = record.get("size"), record.get("os_hash_value"), body.hexdigest()
    if size not in (None, body.sent):
        return f"it holds {size} bytes, but {body.sent} were sent"
    if not held or sent is None:
        if size is None:
            return "the image service tells neither how many bytes it holds nor their hash"
        return None
    algorithm = record.get("os_hash_algo")
    if algorithm != body.algorithm:
        return (
            f"its hash is made with {algorithm}, and cannot be compared with the "
            f"{body.algorithm} of what was sent: [glance] hash_algorithm has to name the same"
        )
    if held != sent:
        return f"it holds other bytes than were sent: their {algorithm} is {held}, not {sent}"
    return None
