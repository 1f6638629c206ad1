# SPDX-License-Identifier: Apache-2.0
"""Clients of the volume service: where it is, and who asks it."""

from typing import Any, Final

from cinderclient import client as cinder_client
from cinderclient.contrib import noauth
from oslo_config import cfg

from nova_snap import exception, identity
from nova_snap.context import RequestContext

GROUP: Final = "cinder"

# The first version: snapshots of attached volumes still have to be asked for with "force", as
# older volume services want it.
_VERSION: Final = "3.0"

_LOCAL: Final = "http://127.0.0.1:8776/v3/%(project_id)s"
_NOBODY: Final = "nova_snap"


class Connection:
    """One client for one request.

    :ivar endpoint: of the volume service, for the log.
    :ivar client: cinderclient's.
    """

    def __init__(self, endpoint: str, client: Any) -> None:
        self.endpoint = endpoint
        self.client = client


class Connector:
    """Makes clients for contexts, by ``[cinder]`` and ``[api] auth_strategy``."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf
        keystone = conf.api.auth_strategy == "keystone"
        self._identity = identity.Identity(conf) if keystone else None
        self._template: str | None = conf.cinder.endpoint_template
        if self._template is None and not keystone:
            self._template = _LOCAL

    def connect(self, context: RequestContext, seconds: float | None = None) -> Connection:
        """A client.

        :param seconds: that its request may take, if that is less than ``[cinder] timeout``.
        :raises nova_snap.exception.IdentityError: if nova_snap cannot say who it is, or finds no
            volume service.
        """
        session = identity.load_session(self._conf, GROUP)
        if seconds is not None:
            session.timeout = min(seconds, session.timeout or seconds)
        if self._identity is None:
            return self._without_keystone(context, session)
        credentials = self._identity.credentials(context)
        # What is wrong with the identity service is found out here, not within the request.
        credentials.headers()
        endpoint = self._endpoint(context, credentials)
        made = cinder_client.Client(
            _VERSION,
            session=session,
            auth=credentials.auth,
            endpoint_override=endpoint,
            global_request_id=context.global_id,
        )
        return Connection(endpoint, made)

    def _endpoint(self, context: RequestContext, credentials: identity.Credentials) -> str:
        if self._template is not None:
            return self._fill(self._template, context.project_id or "")
        service_type, service_name, interface = self._conf.cinder.catalog_info.split(":")
        return credentials.find_endpoint(
            GROUP,
            service_type=service_type,
            service_name=service_name or None,
            interface=interface.removesuffix("URL"),
            region_name=self._conf.cinder.os_region_name,
        )

    def _without_keystone(self, context: RequestContext, session: Any) -> Connection:
        """A volume service with ``auth_strategy = noauth`` believes what it is told."""
        project = context.project_id or _NOBODY
        endpoint = self._fill(self._template or _LOCAL, project)
        made = cinder_client.Client(
            _VERSION,
            session=session,
            auth=noauth.CinderNoAuthPlugin(context.user_id or _NOBODY, project),
            endpoint_override=endpoint,
            global_request_id=context.global_id,
        )
        return Connection(endpoint, made)

    @staticmethod
    def _fill(template: str, project_id: str) -> str:
        try:
            return (template % {"project_id": project_id, "tenant_id": project_id}).rstrip("/")
        except (KeyError, TypeError, ValueError) as error:
            reason = f"endpoint_template = {template} cannot be filled in: {error!r}"
            raise exception.IdentityMisconfigured(group=GROUP, reason=reason) from error
