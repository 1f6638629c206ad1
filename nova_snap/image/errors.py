# SPDX-License-Identifier: Apache-2.0
"""What glanceclient raises, and what an answer that is none raises in it, as errors of ours."""

import contextlib
from collections.abc import Iterator
from typing import Final

import glanceclient.exc

from nova_snap import exception
from nova_snap.image import answers

_RETRY_CODES: Final = (500, 502, 503, 504)
_UNFIT: Final = (
    "the data look like another format than the image's disk_format, or like one that is not safe; "
    "what a guest writes to a raw disk may do so, and in an image of the format qcow2 it does not"
)
_UNAUTHORIZED: Final = "the token has expired, was revoked, or is not one that it knows (401)"


@contextlib.contextmanager
def translated(endpoint: str, image_id: str) -> Iterator[None]:
    """glanceclient's errors, as ours."""
    try:
        yield
    except (
        glanceclient.exc.CommunicationError,
        glanceclient.exc.InvalidEndpoint,
        *answers.BROKEN,
    ) as error:
        raise exception.ImageServiceUnavailable(endpoint=endpoint, reason=details(error)) from error
    except glanceclient.exc.HTTPException as error:
        raise _from_http(error, endpoint, image_id) from error


def _from_http(
    error: glanceclient.exc.HTTPException, endpoint: str, image_id: str
) -> exception.NovaSnapError:
    reason = details(error)
    if error.code in _RETRY_CODES:
        return exception.ImageServiceUnavailable(endpoint=endpoint, reason=reason)
    if error.code in (404, 410):
        return exception.ImageNotFound(image_id=image_id)
    if error.code == 401:
        return exception.ImageForbidden(image_id=image_id, reason=_UNAUTHORIZED)
    if error.code == 403:
        return exception.ImageForbidden(image_id=image_id, reason=reason)
    if error.code == 400:
        return exception.InvalidImageProperty(reason=reason)
    if error.code == 409:
        return exception.ImageConflict(image_id=image_id, reason=reason)
    if error.code == 413:
        return exception.ImageTooLarge(reason=reason)
    if error.code == 415:
        # Since its release 29 it looks at what it is sent.
        return exception.ImageRejected(image_id=image_id, reason=f"{_UNFIT}: {reason}")
    return exception.ImageServiceError(reason=reason)


def details(error: Exception) -> str:
    """As much as the image service said."""
    return str(getattr(error, "details", None) or error)
