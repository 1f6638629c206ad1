# SPDX-License-Identifier: Apache-2.0
"""Requests and responses of the API."""

import json
from typing import Any, Final, cast

import webob

from nova_snap.api import errors, text
from nova_snap.api.microversion import Microversion
from nova_snap.context import RequestContext

CONTEXT: Final = "nova_snap.context"
MICROVERSION: Final = "nova_snap.microversion"
URL_PROJECT_ID: Final = "nova_snap.url_project_id"
REQUEST_ID: Final = "openstack.request_id"
GLOBAL_REQUEST_ID: Final = "openstack.global_request_id"

# Nova takes text/plain for "not said", because old servers put it where a client said nothing.
_JSON_TYPES: Final = (
    "",
    "text/plain",
    "application/json",
    "application/vnd.openstack.compute+json",
)


class Request(webob.Request):  # type: ignore[misc]
    """A request on its way through the API."""

    @property
    def context(self) -> RequestContext:
        """Who asks. Only routes that need authentication may ask for it."""
        return cast(RequestContext, self.environ[CONTEXT])

    @property
    def microversion(self) -> Microversion:
        """The version of the API that the request speaks."""
        return cast(Microversion, self.environ[MICROVERSION])

    @property
    def request_id(self) -> str | None:
        """The id that this service gave the request."""
        return cast(str | None, self.environ.get(REQUEST_ID))

    @property
    def url_project_id(self) -> str | None:
        """The project that the path names; ``None`` if it names none."""
        return cast(str | None, self.environ.get(URL_PROJECT_ID))

    def query(self) -> dict[str, list[str]]:
        """The query string: each key with its values, in their order.

        :raises nova_snap.api.errors.MalformedRequest: if it is not UTF-8, or has NUL characters.
        """
        found: dict[str, list[str]] = {}
        try:
            for key, value in self.GET.items():
                found.setdefault(key, []).append(value)
        except UnicodeDecodeError:
            raise errors.MalformedRequest(reason="The query string is not UTF-8.") from None
        # No database takes it, and PostgreSQL says so with an error of its own.
        if any("\0" in part for key, values in found.items() for part in (key, *values)):
            raise errors.MalformedRequest(reason="The query string has a NUL character in it.")
        return found

    def json_object(self) -> dict[str, Any]:
        """The body.

        :raises nova_snap.api.errors.UnsupportedMediaType: if it is said to be no JSON.
        :raises nova_snap.api.errors.MalformedRequest: if it is no JSON object.
        """
        if self.content_type not in _JSON_TYPES:
            raise errors.UnsupportedMediaType(given=text.shorten(self.content_type))
        try:
            raw = self.body
        except OSError:
            raise errors.MalformedRequest(
                reason="Malformed request body: it ends before its Content-Length."
            ) from None
        if not raw:
            raise errors.MalformedRequest(reason="Malformed request body: there is none.")
        try:
            body = json.loads(raw.decode("utf-8"), parse_constant=_refuse_constant)
            # A lone surrogate ("\ud800") is JSON and yet no text that could be passed on.
            json.dumps(body, ensure_ascii=False).encode("utf-8")
        except UnicodeError:
            raise errors.MalformedRequest(
                reason="Malformed request body: it is not UTF-8."
            ) from None
        except (ValueError, RecursionError):
            raise errors.MalformedRequest(
                reason="Malformed request body: it is not JSON."
            ) from None
        if not isinstance(body, dict):
            raise errors.MalformedRequest(reason="Malformed request body: it is not a JSON object.")
        return body


def _refuse_constant(name: str) -> None:
    """Python reads NaN and Infinity, which are no JSON, and no number for a database."""
    raise ValueError(name)


def json_response(body: object, status: int = 200) -> webob.Response:
    """``body`` as JSON."""
    return webob.Response(
        status=status,
        content_type="application/json",
        charset="UTF-8",
        body=json.dumps(body).encode(),
    )


def empty_response(status: int) -> webob.Response:
    """No body at all, and so no type of one."""
    response = webob.Response(status=status)
    del response.content_type
    return response
