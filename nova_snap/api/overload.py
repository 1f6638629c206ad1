# SPDX-License-Identifier: Apache-2.0
"""More requests than can be served: who has waited for too long is told so, and nothing is done.

Whoever has waited for minutes has given up by then, or a proxy has for him, and will ask again: to
serve such a request does what nobody waits for, perhaps twice, and keeps the others waiting.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

from oslo_config import cfg
from oslo_log import log

from nova_snap.api import errors
from nova_snap.api.auth import WSGIApplication

LOG = log.getLogger(__name__)

WAITED: Final = "nova_snap.waited"
"""In the environment of a request: seconds for which it has waited for a thread. A WSGI server of
an operator's own does not say it."""


CLOSED: Final = "nova_snap.closed"
"""In the environment of a request: whether its turn has come after the server's time to stop."""


class Overload:
    """Refuses what comes to its turn later than ``[api] queue_timeout``, or while the service is
    being stopped later than graceful_shutdown_timeout."""

    def __init__(self, application: WSGIApplication, conf: cfg.ConfigOpts) -> None:
        self._application = application
        self._longest: int = conf.api.queue_timeout

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        reason = self._reason(environ)
        application = self._application
        if reason is not None:
            application = errors.fault(503, f"{reason} Nothing was done; try again later.")
        answer: Iterable[bytes] = application(environ, start_response)
        return answer

    def _reason(self, environ: dict[str, Any]) -> str | None:
        """Why a request is not served."""
        waited = environ.get(WAITED, 0.0)
        if environ.get(CLOSED):
            LOG.info("A request is refused, because the service stops")
            return "The service is being stopped."
        if not self._longest or waited <= self._longest:
            return None
        LOG.warning(
            "A request is refused, for which there was no thread for %.0f s: see [api] threads and "
            "queue_timeout",
            waited,
        )
        return f"There are too many requests: this one has waited for {waited:.0f} s."
