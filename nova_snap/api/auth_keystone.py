# SPDX-License-Identifier: Apache-2.0
"""``[api] auth_strategy = keystone``: Keystone says who sends a request.

keystonemiddleware checks the token; what it finds becomes the request's context, and what it
refuses an answer in Nova's shape.
"""

import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import webob
from keystonemiddleware import auth_token
from oslo_config import cfg

from nova_snap import exception, identity
from nova_snap.api import errors, routes
from nova_snap.api.policies import Enforcer
from nova_snap.api.wsgi import CONTEXT, Request
from nova_snap.context import RequestContext
from nova_snap.db.session import Database

GROUP: Final = "keystone_authtoken"
TIMEOUT: Final = 60
"""Seconds that Keystone may take; keystonemiddleware would wait for ever."""

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_PACKAGES: Final = {"memcache": "python-memcached", "bmemcached": "python-binary-memcached"}
_REACHED: Final = "nova_snap.authenticated"
_VOLUME_TYPES: Final = ("block-storage", "block-store", "volume", "volumev2", "volumev3")


class ProjectRequired(exception.Forbidden):
    """:ivar scope: what the token is for instead."""

    scope: str
    msg = "The token is {self.scope}: ask Keystone for one of a project."


class Keystone:
    """The application, for those who have a token of a project; the version documents for all.

    :raises nova_snap.exception.IdentityMisconfigured: if ``[keystone_authtoken]`` does not say as
        whom to ask Keystone.
    """

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        application: WSGIApplication,
        database: Database,
        enforcer: Enforcer,
    ) -> None:
        for group, options in auth_token.list_opts():
            conf.register_opts(options, group=group)
        conf.set_default("http_connect_timeout", TIMEOUT, GROUP)
        _check(conf)
        self._public = application
        self._protocol = auth_token.AuthProtocol(
            _Contexts(conf, application, database, enforcer), {"oslo_config_config": conf}
        )

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        request = Request(environ)
        if _is_public(request):
            return self._public(environ, start_response)
        response = request.get_response(self._protocol)
        if _REACHED not in environ:
            response = _refusal(request, response)
        answer: Iterable[bytes] = response(environ, start_response)
        return answer


def _is_public(request: Request) -> bool:
    """Whether the answer is for everybody, as is what methods there are for a path."""
    path = request.environ.get("PATH_INFO", "")
    if request.method == "OPTIONS":
        return routes.match(path) is not None
    return path in routes.PUBLIC_PATHS


def _check(conf: cfg.ConfigOpts) -> None:
    """Find at the start what would otherwise fail every request."""
    reason = ""
    if identity.load_plugin(conf, GROUP) is None:
        reason = "auth_type is not set"
    options = conf[GROUP]
    module = "bmemcached" if options.memcache_sasl_enabled else "memcache"
    if options.memcached_servers and importlib.util.find_spec(module) is None:
        reason = f"memcached_servers needs the Python module {module}, of {_PACKAGES[module]}"
    if reason:
        raise exception.IdentityMisconfigured(group=GROUP, reason=reason)


class _Contexts:
    """Makes the context of a request that keystonemiddleware lets through."""

    def __init__(
        self,
        conf: cfg.ConfigOpts,
        application: WSGIApplication,
        database: Database,
        enforcer: Enforcer,
    ) -> None:
        self._application = application
        self._database = database
        self._enforcer = enforcer
        self._service_types = {conf.glance.service_type, *_VOLUME_TYPES}

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        environ[_REACHED] = True
        context = RequestContext.from_environ(
            environ, db=self._database, service_catalog=self._catalog(environ)
        )
        if context.project_id is None:
            error = ProjectRequired(scope=_scope(context))
            refusal: Iterable[bytes] = errors.response_for(error, context.request_id)(
                environ, start_response
            )
            return refusal
        context.is_admin = self._enforcer.is_admin(context)
        environ[CONTEXT] = context
        return self._application(environ, start_response)

    def _catalog(self, environ: Mapping[str, Any]) -> list[dict[str, Any]]:
        """What may be asked of other services; the rest would only make messages longer."""
        catalog: list[dict[str, Any]] = json.loads(environ.get("HTTP_X_SERVICE_CATALOG", "[]"))
        return [entry for entry in catalog if entry.get("type") in self._service_types]


def _scope(context: RequestContext) -> str:
    if context.system_scope:
        return "of the system"
    if context.domain_id:
        return f"of the domain {context.domain_id}"
    return "not of any project or domain"


def _refusal(request: Request, response: webob.Response) -> webob.Response:
    """keystonemiddleware's own answer, in Nova's shape."""
    if response.status_int == 503:
        return errors.fault(
            503, "The token cannot be checked: the identity service does not answer as it should."
        )
    if response.status_int != 401:
        return response
    refusal = errors.fault(401, _reason(request))
    for challenge in response.headers.getall("WWW-Authenticate"):
        refusal.headers.add("WWW-Authenticate", challenge)
    return refusal


def _reason(request: Request) -> str:
    if not request.headers.get("X-Auth-Token"):
        return (
            "The request does not say who sends it: it has no X-Auth-Token header with a token of "
            "Keystone's."
        )
    if request.headers.get("X-Service-Identity-Status") == "Invalid":
        return (
            "The token in X-Service-Token is not valid, or not of a user with a role that "
            "[keystone_authtoken] service_token_roles names."
        )
    return "The token in X-Auth-Token is not valid: it may have expired, or been revoked."
