# SPDX-License-Identifier: Apache-2.0
"""Who sends a request: ``[api] auth_strategy``.

The middleware gives a request its context, or none where the client did not say who it is; the
dispatcher then decides whether the route can do without.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any, Final

from oslo_config import cfg

from nova_snap.api import errors
from nova_snap.api.auth_keystone import Keystone
from nova_snap.api.policies import Enforcer
from nova_snap.api.wsgi import CONTEXT, GLOBAL_REQUEST_ID, REQUEST_ID, Request
from nova_snap.context import RequestContext
from nova_snap.db.session import Database

WSGIApplication = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]

_IDENTIFIER: Final = re.compile(r"[\x21-\x7e]{1,255}\Z")
_ADMIN_ROLES: Final = ["admin", "member", "reader"]
_USER_ROLES: Final = ["member", "reader"]


class NoAuth2:
    """Believes what the client says of itself, as Nova's middleware of that name did.

    The token is ``USER`` or ``USER:PROJECT``. Without a project in it, ``X-Project-Id`` or
    ``X-Auth-Project-Id`` names the project, and else it is named like the user. The user
    ``admin`` has the role admin; everyone is a member and a reader of his project.
    """

    def __init__(
        self, application: WSGIApplication, database: Database, enforcer: Enforcer
    ) -> None:
        self._application = application
        self._database = database
        self._enforcer = enforcer

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        request = Request(environ)
        token = request.headers.get("X-Auth-Token")
        if token:
            try:
                environ[CONTEXT] = self._context(request, token)
            except errors.Unauthenticated as error:
                response = errors.response_for(error, request.request_id)
                answer: Iterable[bytes] = response(environ, start_response)
                return answer
        return self._application(environ, start_response)

    def _context(self, request: Request, token: str) -> RequestContext:
        user_id, _, project_id = token.partition(":")
        headers = request.headers
        project_id = (
            project_id or headers.get("X-Project-Id") or headers.get("X-Auth-Project-Id") or user_id
        )
        for what, value in (("user", user_id), ("project", project_id)):
            if not _IDENTIFIER.match(value):
                raise errors.Unauthenticated(
                    reason=f"The token's {what} must be 1 to 255 printable ASCII characters "
                    "without spaces."
                )
        context = RequestContext(
            user_id=user_id,
            project_id=project_id,
            roles=_ADMIN_ROLES if user_id == "admin" else _USER_ROLES,
            request_id=request.environ.get(REQUEST_ID),
            global_request_id=request.environ.get(GLOBAL_REQUEST_ID),
            auth_token=token,
            db=self._database,
        )
        context.is_admin = self._enforcer.is_admin(context)
        return context


def middleware(
    conf: cfg.ConfigOpts, application: WSGIApplication, database: Database, enforcer: Enforcer
) -> WSGIApplication:
    """The application behind the strategy that ``[api] auth_strategy`` names."""
    if conf.api.auth_strategy == "keystone":
        return Keystone(conf, application, database, enforcer)
    return NoAuth2(application, database, enforcer)
