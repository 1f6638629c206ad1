# SPDX-License-Identifier: Apache-2.0
"""Tokens and endpoints for requests to other services of the cloud, through keystoneauth.

A request that nova_snap makes for a user carries the user's token, and beside it the service's own
(``[service_user]``): the receiver then takes the user's token even after it has expired, for as
long as ``[token] allow_expired_window`` of Keystone says. The service's token is renewed before it
expires. What nobody asked for, such as the recovery at a start, is done with the service's token
alone.
"""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading, plugin, service_token
from keystoneauth1.access import service_catalog
from keystoneauth1.session import Session
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext

GROUP: Final = "service_user"

_UNAVAILABLE: Final = (
    ksa_exceptions.ConnectionError,
    ksa_exceptions.DiscoveryFailure,
    ksa_exceptions.HttpServerError,
)


UNREACHABLE: Final = (
    ksa_exceptions.ConnectionError,
    ksa_exceptions.RetriableConnectionFailure,
)
"""What a request through a session raises when there is no answer to it."""


def load_session(conf: cfg.ConfigOpts, group: str) -> Session:
    """keystoneauth's session, as a group's ``timeout``, ``cafile`` and the like say.

    :raises nova_snap.exception.IdentityMisconfigured: if they do not fit together.
    """
    try:
        return loading.load_session_from_conf_options(conf, group)
    except ksa_exceptions.ClientException as error:
        raise exception.IdentityMisconfigured(group=group, reason=str(error)) from error


def load_plugin(conf: cfg.ConfigOpts, group: str) -> plugin.BaseAuthPlugin | None:
    """keystoneauth's plugin for what a group says; ``None`` if it says nothing.

    :raises nova_snap.exception.IdentityMisconfigured: if it lacks something, or its auth_type is
        none of keystoneauth's plugins.
    """
    try:
        return loading.load_auth_from_conf_options(conf, group)
    except (ksa_exceptions.ClientException, cfg.Error) as error:
        raise exception.IdentityMisconfigured(group=group, reason=str(error)) from error


class Identity:
    """Who nova_snap is to other services, on behalf of whom.

    :param conf: its ``[service_user]`` says who the service itself is.
    :raises nova_snap.exception.IdentityMisconfigured: if that lacks something, or is none of
        keystoneauth's plugins.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._send_service_token = conf.service_user.send_service_user_token
        self._session = loading.load_session_from_conf_options(conf, GROUP)
        self._service = load_plugin(conf, GROUP)

    def credentials(self, context: RequestContext) -> "Credentials":
        """What a request for ``context`` is sent with.

        :raises nova_snap.exception.NoCredentials: if the context has no token, and there is no
            service user to take its place.
        """
        auth = self._plugin(context)
        if auth is None:
            raise exception.NoCredentials()
        return Credentials(self._session, auth)

    def _plugin(self, context: RequestContext) -> plugin.BaseAuthPlugin | None:
        if not context.auth_token:
            return self._service
        user = UserAuth(context.auth_token, context.service_catalog)
        if self._service is None or not self._send_service_token:
            return user
        return service_token.ServiceTokenAuthWrapper(user_auth=user, service_auth=self._service)


class UserAuth(plugin.BaseAuthPlugin):
    """The token that a user sent, and the catalog that came with it: neither can be renewed."""

    def __init__(self, token: str, catalog: Sequence[dict[str, Any]]) -> None:
        super().__init__()
        self._token = token
        self._catalog = service_catalog.ServiceCatalogV2(list(catalog))

    def get_token(self, session: Session) -> str | None:  # noqa: ARG002 - keystoneauth's
        return self._token

    def get_endpoint(self, session: Session, **wanted: Any) -> str | None:  # noqa: ARG002
        known = ("service_type", "service_name", "interface", "region_name")
        return self._catalog.url_for(**{name: wanted.get(name) for name in known})


class Credentials:
    """The headers of a request; with requests, an ``auth`` that sets them.

    As ``auth`` they are no part of the session's headers, which clients write into their logs.
    For clients that are made for keystoneauth there are :attr:`session` and :attr:`auth`.

    :ivar session: keystoneauth's, for requests to the identity service.
    :ivar auth: keystoneauth's plugin.
    """

    def __init__(self, session: Session, auth: plugin.BaseAuthPlugin) -> None:
        self.session = session
        self.auth = auth

    def headers(self) -> dict[str, str]:
        """``X-Auth-Token``, and ``X-Service-Token`` where there is one.

        :raises nova_snap.exception.IdentityServiceUnavailable: if a token is needed for it and
            cannot be had now.
        :raises nova_snap.exception.IdentityMisconfigured: if the service's own user is refused.
        """
        with translated():
            return self.auth.get_headers(self.session) or {}

    def endpoint(self, conf: cfg.ConfigOpts, group: str) -> str:
        """The URL of a service by the catalog, without a trailing slash.

        :param group: its options ``service_type``, ``service_name``, ``valid_interfaces`` and
            ``region_name`` say which.
        :raises nova_snap.exception.EndpointNotFound: if the catalog has none like that.
        """
        return self.find_endpoint(
            group,
            service_type=conf[group].service_type,
            service_name=conf[group].service_name,
            interface=conf[group].valid_interfaces,
            region_name=conf[group].region_name,
        )

    def find_endpoint(self, group: str, **wanted: Any) -> str:
        """The URL of a service by the catalog, without a trailing slash.

        :param group: of the options, for the error.
        :param wanted: ``service_type``, ``service_name``, ``interface`` and ``region_name``.
        :raises nova_snap.exception.EndpointNotFound: if the catalog has none like that.
        """
        with translated(), contextlib.suppress(ksa_exceptions.CatalogException):
            found = self.auth.get_endpoint(self.session, **wanted)
            if found:
                return found.rstrip("/")
        raise exception.EndpointNotFound(group=group, **wanted)

    def renew(self) -> bool:
        """After a 401: forget the service's token. ``False`` if there was none to forget."""
        return self.auth.invalidate()

    def __call__(self, request: Any) -> Any:
        """What requests calls with a request that is about to be sent."""
        request.headers.update(self.headers())
        return request


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """keystoneauth's errors, as ours.

    Also for a request to another service through :attr:`Credentials.session`, which asks the
    identity service for another token within it. :data:`UNREACHABLE` has to be caught inside of
    this, where it is that other service's.
    """
    try:
        yield
    except _UNAVAILABLE as error:
        raise exception.IdentityServiceUnavailable(reason=str(error)) from error
    except ksa_exceptions.ClientException as error:
        raise exception.IdentityMisconfigured(group=GROUP, reason=str(error)) from error
