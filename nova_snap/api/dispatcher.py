# SPDX-License-Identifier: Apache-2.0
"""From a request to the method that answers it, and back: the innermost WSGI application."""

import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final
from urllib.parse import quote

import webob
from oslo_log import log

from nova_snap.api import errors, microversion, routes, text
from nova_snap.api.wsgi import (
    CONTEXT,
    MICROVERSION,
    URL_PROJECT_ID,
    Request,
    empty_response,
)

LOG = log.getLogger(__name__)

_ANONYMOUS: Final = (
    "The request says not who sends it: it has no X-Auth-Token header. With auth_strategy noauth2 "
    "the token is USER or USER:PROJECT."
)

_WITH_BODY: Final = ("POST", "PUT")

# What a query string may have as it is; "%" because it comes quoted.
_QUERY: Final = "%/:=&?~+!$,;'@()*[]"


class Dispatcher:
    """Finds the route, negotiates the microversion, calls the controller.

    :param controllers: the objects that :data:`nova_snap.api.routes.ROUTES` names.
    """

    def __init__(self, controllers: Mapping[str, object]) -> None:
        self._controllers = controllers

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        request = Request(environ)
        started = time.monotonic()
        response = self._answer(request)
        version = environ.get(MICROVERSION)
        if version is not None:
            for name, value in microversion.response_headers(version):
                response.headers.add(name, value)
        LOG.info(
            '%s "%s %s" status: %s len: %s microversion: %s time: %.3f',
            request.remote_addr or "-",
            *_line(request),
            response.status_int,
            response.content_length or 0,
            version or "-",
            time.monotonic() - started,
        )
        answer: Iterable[bytes] = response(environ, start_response)
        return answer

    def _answer(self, request: Request) -> webob.Response:
        try:
            return self._dispatch(request)
        except Exception as error:
            caught = error
        return failure(request, caught)

    def _dispatch(self, request: Request) -> webob.Response:
        path = _path(request)
        match = routes.match(path)
        if match is not None and request.method == "OPTIONS":
            return _options(match)
        if path not in routes.PUBLIC_PATHS and CONTEXT not in request.environ:
            raise errors.Unauthenticated(reason=_ANONYMOUS)
        if path not in routes.UNVERSIONED_PATHS:
            request.environ[MICROVERSION] = microversion.requested(request.headers)
            if match is not None and match.ended_before(request.microversion.minor):
                match = None
        if match is None:
            raise errors.NoSuchResource()
        method = "GET" if request.method == "HEAD" else request.method
        if method not in match.methods:
            raise errors.MethodNotAllowed(
                method=text.shorten(request.method, 20),
                allowed=routes.allowed_methods(match.methods),
            )
        _check_project(request, match)
        return self._call(request, match, match.methods[method])

    def _call(
        self, request: Request, match: routes.Match, target: tuple[str, str]
    ) -> webob.Response:
        arguments: dict[str, Any] = dict(match.parameters)
        if request.method in _WITH_BODY:
            arguments["body"] = request.json_object()
        if match.template.endswith("/action"):
            target = _action(arguments["body"])
        controller, name = target
        handler: routes.Handler = getattr(self._controllers[controller], name)
        return handler(request, **arguments)


def failure(request: Request, error: Exception) -> webob.Response:
    """The answer to a request that ended with an exception, which is logged."""
    response = errors.response_for(error, request.request_id)
    if errors.code_of(error) is None:
        LOG.error("Unexpected error in %s %s", *_line(request), exc_info=error)
    elif response.status_int >= 500:
        LOG.error("%s %s failed: %s", *_line(request), error)
    if isinstance(error, microversion.VersionNotAcceptable | microversion.InvalidVersion):
        response.headers.extend(microversion.vary_headers())
    return response


def _line(request: Request) -> tuple[str, str]:
    """The request as the log shows it: quoted, and not longer than a line should be."""
    environ = request.environ
    # WSGI has the path's bytes as Latin-1, whether they are UTF-8 or not.
    url = quote(environ.get("PATH_INFO", "").encode("latin-1"))
    if environ.get("QUERY_STRING"):
        url += "?" + quote(environ["QUERY_STRING"].encode("latin-1"), safe=_QUERY)
    return text.shorten(quote(request.method), 20), text.shorten(url, 1000)


def _path(request: Request) -> str:
    try:
        path = str(request.path_info)
    except UnicodeDecodeError:
        raise errors.NoSuchResource() from None
    # No database takes it, and PostgreSQL's driver says so with an error of its own.
    if "\0" in path:
        raise errors.NoSuchResource()
    return path


def _options(match: routes.Match) -> webob.Response:
    response = empty_response(204)
    response.headers["Allow"] = ", ".join(sorted(routes.allowed_methods(match.methods)))
    return response


def _check_project(request: Request, match: routes.Match) -> None:
    """A path may name no project but the client's own: not even an administrator's may."""
    if match.project_id is None:
        return
    project_id = request.context.project_id
    if match.project_id != project_id:
        raise errors.MalformedRequest(
            reason=f"Malformed request URL: URL's project_id '{text.shorten(match.project_id)}' "
            f"doesn't match Context's project_id '{project_id}'"
        )
    request.environ[URL_PROJECT_ID] = match.project_id


def _action(body: Mapping[str, Any]) -> tuple[str, str]:
    """What the body asks to be done: its only key says so."""
    if len(body) != 1:
        raise errors.MalformedRequest(
            reason=f"Malformed request body: it names {len(body)} actions instead of one."
        )
    (name,) = body
    if name not in routes.ACTIONS:
        raise errors.MalformedRequest(reason=f"There is no such action: {text.shorten(name)}")
    return routes.ACTIONS[name]
