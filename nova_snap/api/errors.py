# SPDX-License-Identifier: Apache-2.0
"""Where exceptions become HTTP: the only place that knows which code an error has.

A fault's body is Nova's::

    {"conflictingRequest": {"code": 409, "message": "Cannot 'createImage' instance ..."}}
"""

import json
from collections.abc import Iterable
from http import HTTPStatus
from typing import Final

import webob
import webob.exc
from oslo_db import exception as db_exception

from nova_snap import exception
from nova_snap.api import microversion

RETRY_AFTER: Final = 10
"""Seconds after which a request may succeed that failed for want of another service."""

_NAMES: Final = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "itemNotFound",
    405: "badMethod",
    409: "conflictingRequest",
    413: "overLimit",
    415: "badMediaType",
    429: "overLimit",
    501: "notImplemented",
    503: "serviceUnavailable",
}
_OTHER: Final = "computeFault"


class MalformedRequest(exception.Invalid):
    """A request that cannot be read, before any schema is asked."""

    reason: str
    msg = "{self.reason}"


class ValidationError(exception.Invalid):
    """A body or a query string that its schema refuses."""

    reason: str
    msg = "{self.reason}"


class AdminOnly(exception.Forbidden):
    what: str
    msg = "Only administrators may {self.what}."


class Unauthenticated(exception.NovaSnapError):
    reason: str
    msg = "{self.reason}"


class NoSuchResource(exception.NotFound):
    msg = "The resource could not be found."


class MethodNotAllowed(exception.NovaSnapError):
    """:ivar allowed: what the resource knows."""

    method: str
    allowed: Iterable[str]
    msg = "Method {self.method} is not allowed for this resource."


class UnsupportedMediaType(exception.NovaSnapError):
    given: str
    msg = "Unsupported Content-Type {self.given}: bodies are application/json."


# The first class in an exception's line of ancestors that is here decides. Whatever is not here
# was not foreseen: 500, and not a word of it to the client.
_CODES: Final[dict[type[Exception], int | None]] = {
    exception.NotFound: 404,
    # A marker is a parameter of a list that exists.
    exception.MarkerNotFound: 400,
    exception.Conflict: 409,
    exception.Invalid: 400,
    # A client cannot ask for a transition: this is a mistake of ours.
    exception.InvalidTransition: None,
    exception.Forbidden: 403,
    Unauthenticated: 401,
    MethodNotAllowed: 405,
    microversion.VersionNotAcceptable: 406,
    UnsupportedMediaType: 415,
    exception.MessagingUnavailable: 503,
    # The request was fine and so is this service: the next one down the line was not.
    exception.ImageServiceError: 502,
    exception.ImageServiceUnavailable: 503,
    exception.VolumeServiceError: 502,
    exception.VolumeServiceUnavailable: 503,
    exception.VolumeSnapshotTimeout: 503,
    # Only an operator can put right what the others are about.
    exception.IdentityError: 500,
    exception.IdentityServiceUnavailable: 503,
    exception.ImageTooLarge: 413,
    exception.ImageConflict: 409,
    exception.ImageRejected: 400,
    exception.QuiesceUnsupported: 400,
    exception.QuiesceFailed: 409,
    db_exception.DBConnectionError: 503,
}

_NO_DATABASE: Final = "The database cannot be reached; try again later."


def code_of(error: BaseException) -> int | None:
    """The HTTP code of an error; ``None`` for one that was not foreseen."""
    if isinstance(error, webob.exc.HTTPError):
        return int(error.code)
    for ancestor in type(error).__mro__:
        if ancestor in _CODES:
            return _CODES[ancestor]
    return None


def response_for(error: BaseException, request_id: str | None) -> webob.Response:
    """The answer that tells the client of ``error``.

    :param request_id: what the operator finds an unforeseen error by.
    """
    code = code_of(error) or HTTPStatus.INTERNAL_SERVER_ERROR
    if isinstance(error, webob.exc.HTTPError):
        return fault(code, error.explanation)
    message = _message(error)
    if code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        message += f" The reason is in the service's log, under request id {request_id}."
    response = fault(code, message)
    if isinstance(error, MethodNotAllowed):
        response.headers["Allow"] = ", ".join(sorted(error.allowed))
    if isinstance(error, Unauthenticated):
        response.headers["WWW-Authenticate"] = "noauth2"
    return response


def fault(code: int, message: str) -> webob.Response:
    """A fault in Nova's shape."""
    body = {_NAMES.get(code, _OTHER): {"code": code, "message": message}}
    response = webob.Response(
        status=f"{code} {HTTPStatus(code).phrase}",
        content_type="application/json",
        charset="UTF-8",
        body=json.dumps(body).encode(),
    )
    if code == HTTPStatus.SERVICE_UNAVAILABLE:
        response.headers["Retry-After"] = str(RETRY_AFTER)
    return response


def _message(error: BaseException) -> str:
    if isinstance(error, exception.MarkerNotFound):
        return f"marker [{error.marker}] not found"
    if isinstance(error, db_exception.DBConnectionError):
        return _NO_DATABASE
    if code_of(error) is None or not isinstance(error, exception.NovaSnapError):
        return "Unexpected API error."
    return error.for_user()
