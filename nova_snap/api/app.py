# SPDX-License-Identifier: Apache-2.0
"""The whole WSGI application, assembled in code.

From the outside in: request id, proxy headers, /healthcheck and /metrics, CORS, faults, overload,
size limit, authentication, dispatcher.
"""

from collections.abc import Callable, Iterable
from typing import Any

import webob
from oslo_config import cfg
from oslo_middleware import cors, http_proxy_to_wsgi, request_id, sizelimit
from oslo_middleware import healthcheck as oslo_healthcheck

from nova_snap.api import (
    aggregates,
    auth,
    availability_zone,
    create_backup,
    dispatcher,
    errors,
    extensions,
    flavor_extra_specs,
    flavors,
    hypervisors,
    image_metadata,
    images,
    instance_actions,
    limits,
    metrics,
    overload,
    quota_sets,
    server_actions,
    server_metadata,
    servers,
    servers_change,
    servers_create,
    services,
    versions,
)
from nova_snap.api.auth import WSGIApplication
from nova_snap.api.policies import Enforcer
from nova_snap.api.wsgi import Request
from nova_snap.compute.api import API
from nova_snap.compute.lifecycle_api import LifecycleAPI
from nova_snap.context import RequestContext
from nova_snap.db.session import Database

HEALTHCHECK_PATH = "/healthcheck"


def build_app(
    conf: cfg.ConfigOpts,
    database: Database,
    compute_api: API,
    lifecycle_api: LifecycleAPI,
    image_api: images.ImageService,
) -> WSGIApplication:
    """The API as a WSGI application.

    :param conf: with the options of :mod:`nova_snap.conf`; those of oslo.middleware and of
        oslo.policy are registered here.
    :param compute_api: what finds instances and makes images of them.
    :param lifecycle_api: what makes, switches and deletes them.
    :param image_api: where clients of before 2.36 find images.
    """
    enforcer = Enforcer(conf)
    app: WSGIApplication = dispatcher.Dispatcher(
        {
            "versions": versions.Controller(conf),
            "servers": servers.Controller(conf, compute_api, enforcer),
            "create_backup": create_backup.Controller(conf, compute_api, enforcer),
            "instance_actions": instance_actions.Controller(conf, enforcer),
            "servers_create": servers_create.Controller(conf, lifecycle_api, enforcer),
            "servers_change": servers_change.Controller(conf, lifecycle_api, enforcer),
            "server_actions": server_actions.Controller(conf, lifecycle_api, enforcer),
            "server_metadata": server_metadata.Controller(conf, lifecycle_api, enforcer),
            "flavors": flavors.Controller(conf, enforcer),
            "flavor_extra_specs": flavor_extra_specs.Controller(enforcer),
            "images": images.Controller(conf, image_api),
            "image_metadata": image_metadata.Controller(conf, image_api),
            "services": services.Controller(conf, enforcer),
            "hypervisors": hypervisors.Controller(conf, enforcer),
            "availability_zone": availability_zone.Controller(conf, enforcer),
            "limits": limits.Controller(conf, enforcer),
            "quota_sets": quota_sets.Controller(conf, enforcer),
            "aggregates": aggregates.Controller(enforcer),
            "extensions": extensions.Controller(enforcer),
        }
    )
    app = auth.middleware(conf, app, database, enforcer)
    app = sizelimit.RequestBodySizeLimiter(app, conf)
    app = overload.Overload(app, conf)
    app = Faults(app, conf)
    app = CrossOrigin(app, conf)
    healthcheck = oslo_healthcheck.Healthcheck(_not_found, conf)
    numbers = metrics.Application(conf, database, _not_found)
    app = Mounts(app, {HEALTHCHECK_PATH: healthcheck, metrics.PATH: numbers})
    app = http_proxy_to_wsgi.HTTPProxyToWSGI(app, conf)
    return ComputeRequestId(app, conf)


class ComputeRequestId(request_id.RequestId):
    """Gives the request an id and tells the client; Nova's own older header has it too."""

    compat_headers = ["x-compute-request-id"]  # noqa: RUF012 - as the base class declares it


class CrossOrigin:
    """oslo.middleware's CORS, for browsers; it would also answer whoever else sends OPTIONS."""

    def __init__(self, application: WSGIApplication, conf: cfg.ConfigOpts) -> None:
        self._application = application
        self._cors: WSGIApplication = cors.CORS(application, conf)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        app = self._cors if "HTTP_ORIGIN" in environ else self._application
        return app(environ, start_response)


class Mounts:
    """Applications that live at one path each, beside the main one."""

    def __init__(self, main: WSGIApplication, mounts: dict[str, WSGIApplication]) -> None:
        self._main = main
        self._mounts = mounts

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        app = self._mounts.get(environ.get("PATH_INFO", ""), self._main)
        return app(environ, start_response)


class Faults:
    """Gives whatever goes wrong in the middleware Nova's shape: the last net."""

    def __init__(self, application: WSGIApplication, conf: cfg.ConfigOpts) -> None:
        self._application = application
        self._conf = conf

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        request = Request(environ)
        # Until someone has said who he is, the log shall not name whom this thread served before.
        RequestContext(request_id=request.request_id)
        caught = None
        try:
            response = request.get_response(self._application)
        except Exception as error:
            caught = error
        if caught is not None:
            response = dispatcher.failure(request, caught)
        if response.status_int == 413 and response.content_type != "application/json":
            response = self._too_large()
        answer: Iterable[bytes] = response(environ, start_response)
        return answer

    def _too_large(self) -> webob.Response:
        limit = self._conf.oslo_middleware.max_request_body_size
        return errors.fault(413, f"Request is too large: at most {limit} bytes are accepted.")


def _not_found(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """What is shown to those whom the health check shall not answer, and without metrics."""
    response = errors.response_for(errors.NoSuchResource(), None)
    answer: Iterable[bytes] = response(environ, start_response)
    return answer
