# SPDX-License-Identifier: Apache-2.0
"""What the image service answers, as far as it is read: nobody bounds what it sends but we."""

import contextlib
from typing import Final

import glanceclient.exc
import requests
from oslo_log import log
from urllib3 import exceptions as urllib3_exceptions

LOG = log.getLogger(__name__)

BROKEN: Final = (requests.RequestException, urllib3_exceptions.HTTPError)
"""What a connection that breaks raises, and an answer that is no JSON."""

IDENTITY: Final = {"Accept-Encoding": "identity"}
"""Headers of every request: what is packed may be a thousand times as long as it looks."""

LONGEST: Final = 16 << 20
"""Bytes of a record, or of a page of them: some 80 KiB for each record of a page."""

_REDIRECTS: Final = 300
_ERRORS: Final = 400

_LONGEST_REFUSAL: Final = 16 << 10
_PIECE: Final = 64 << 10
# Of what is said by somebody who says it in a way of his own.
_WORDS: Final = 1000


class TooLong(glanceclient.exc.HTTPException):  # type: ignore[misc]
    """An answer that nobody reads to its end. To ask the same again is of no use: whoever made an
    image may make its record as long as the image service lets him."""


def read(response: requests.Response, longest: int = LONGEST) -> None:
    """Read the body of an answer that was asked for with ``stream``, and end its connection.

    :param longest: in bytes.
    :raises TooLong: if there is more.
    :raises glanceclient.exc.CommunicationError: if the connection breaks.
    """
    try:
        body = _start(response, longest + 1)
    except BROKEN as error:
        raise glanceclient.exc.CommunicationError(message=str(error)) from error
    if len(body) > longest:
        raise TooLong(details=f"it answered more than {longest} bytes")


def _start(response: requests.Response, length: int) -> bytes:
    """So much of the body at the most, which is then all that there is of the answer."""
    if response._content is not False:
        return bytes(response.content)
    body = bytearray()
    try:
        with contextlib.closing(response):
            # As it came: what is packed although it was asked for as it is, is none.
            for piece in response.raw.stream(_PIECE, decode_content=False):
                body += piece[: length - len(body)]
                if len(body) == length:
                    break
    finally:
        response._content, response._content_consumed = bytes(body), True
    return bytes(body)


def refused(response: requests.Response) -> bool:
    """Whether the answer is no success. Nobody is followed to another place: the caller's token,
    and the service's, are for the image service and for nobody that it names."""
    return bool(response.status_code >= _REDIRECTS)


def refusal(response: requests.Response) -> glanceclient.exc.HTTPException:
    """glanceclient's error for an answer, also for one whose body it cannot read. Its body is read
    if it was not yet, as far as words go."""
    if _REDIRECTS <= response.status_code < _ERRORS:
        return _redirect(response)
    with contextlib.suppress(*BROKEN):
        _start(response, _LONGEST_REFUSAL)
    error = _refusal(response)
    # It has no class for some codes, such as 415, and forgets those.
    error.code = response.status_code
    return error


def _redirect(response: requests.Response) -> glanceclient.exc.HTTPException:
    place = str(response.headers.get("Location"))[:_WORDS]
    LOG.error(
        "%s leads to %s (%d), which is not followed", response.url, place, response.status_code
    )
    response.close()
    error = glanceclient.exc.HTTPException(
        details=f"it leads to another place ({response.status_code}), where no token is sent to"
    )
    error.code = response.status_code
    return error


def _refusal(response: requests.Response) -> glanceclient.exc.HTTPException:
    kind = type(glanceclient.exc.from_response(response, None))
    try:
        said = response.json()["message"]
    except (KeyError, TypeError, ValueError, RecursionError):
        said = response.text
        with contextlib.suppress(AttributeError, KeyError, TypeError, ValueError, RecursionError):
            said = glanceclient.exc.from_response(response, response.content).details
    return kind(details=str(said)[:_WORDS])
