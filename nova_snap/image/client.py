# SPDX-License-Identifier: Apache-2.0
"""Clients of the image service: where it is, and who asks it."""

import itertools
import threading
from typing import Any, Final

import glanceclient
from oslo_config import cfg

from nova_snap.context import RequestContext
from nova_snap.identity import Credentials, Identity

GROUP: Final = "glance"

_LOCAL: Final = "http://127.0.0.1:9292"


class Connection:
    """One client for one request.

    :ivar endpoint: of the image service, without a version.
    :ivar client: glanceclient's.
    """

    def __init__(self, endpoint: str, client: Any, credentials: Credentials | None) -> None:
        self.endpoint = endpoint
        self.client = client
        self._credentials = credentials

    def renew(self) -> bool:
        """After a 401: whether another try goes out with another token."""
        return self._credentials is not None and self._credentials.renew()


class Connector:
    """Makes clients for contexts, by ``[glance]`` and ``[api] auth_strategy``."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        self._identity = Identity(conf) if conf.api.auth_strategy == "keystone" else None
        servers = list(conf.glance.api_servers)
        if not servers and conf.glance.endpoint_override:
            servers = [conf.glance.endpoint_override]
        if not servers and self._identity is None:
            servers = [_LOCAL]
        self._servers = [_unversioned(server) for server in servers]
        self._next_server = itertools.cycle(self._servers)
        self._lock = threading.Lock()

    def endpoint(self, context: RequestContext) -> str:
        """The endpoint that a user may be told of, without a version and a trailing slash.

        :raises nova_snap.exception.EndpointNotFound: if it is the catalog's, and there is none.
        """
        if self._servers:
            return self._servers[0]
        return self._from_catalog(self._credentials(context))

    def connect(self, context: RequestContext) -> Connection:
        """A client; with several servers, of the next one.

        :raises nova_snap.exception.IdentityError: if nova_snap cannot say who it is, or finds no
            image service.
        """
        credentials = self._credentials(context)
        if self._servers:
            with self._lock:
                endpoint = next(self._next_server)
        else:
            endpoint = self._from_catalog(credentials)
        client = self._client(endpoint, context)
        session = client.http_client.session
        if credentials is not None:
            session.auth = credentials
        else:
            # Not as its identity_headers: glanceclient quotes their values as it would a path, and
            # the image service would read the comma between two roles as a part of one.
            session.headers.update(_identity_headers(context))
        return Connection(endpoint, client, credentials)

    def _credentials(self, context: RequestContext) -> Credentials | None:
        return self._identity.credentials(context) if self._identity is not None else None

    def _from_catalog(self, credentials: Credentials | None) -> str:
        if credentials is None:
            raise RuntimeError("without Keystone there is no catalog")
        return _unversioned(credentials.endpoint(self._conf, GROUP))

    def _client(self, endpoint: str, context: RequestContext) -> Any:
        options = self._conf.glance
        settings: dict[str, Any] = {
            "timeout": options.timeout,
            "insecure": options.insecure,
            "global_request_id": context.global_id,
        }
        if options.cafile:
            settings["cacert"] = options.cafile
        return glanceclient.Client(endpoint=f"{endpoint}/v2", **settings)


def _unversioned(endpoint: str) -> str:
    return endpoint.rstrip("/").removesuffix("/v2")


def _identity_headers(context: RequestContext) -> dict[str, str]:
    """Who asks, for an image service that believes it (paste pipeline without Keystone)."""
    headers = {
        "X-User-Id": context.user_id,
        "X-Tenant-Id": context.project_id,
        "X-Roles": ",".join(context.roles),
        # Where Keystone is, the service's own token says so.
        "X-Service-Roles": "service",
        "X-Identity-Status": "Confirmed",
        "X-Auth-Token": context.auth_token,
    }
    return {name: value for name, value in headers.items() if value}
