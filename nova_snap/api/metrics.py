# SPDX-License-Identifier: Apache-2.0
"""``/metrics``: numbers for Prometheus, of all the hosts, from whichever API process is asked.

They are in the database, so that none is lost with a process, and the sums only grow.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

import prometheus_client
import webob
from oslo_config import cfg
from oslo_db import exception as db_exception
from oslo_log import log
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from nova_snap.context import RequestContext, get_admin_context
from nova_snap.db.session import Database
from nova_snap.objects.service import COMPUTE, Service
from nova_snap.objects.snapshot_request import SnapshotRequest, SnapshotTotal

LOG = log.getLogger(__name__)

PATH: Final = "/metrics"

_ENDED: Final = ("host", "action", "method", "outcome")


class Snapshots(Collector):
    """What there is to count, read for each scrape."""

    def __init__(self, conf: cfg.ConfigOpts, database: Database) -> None:
        self._down_time: int = conf.service_down_time
        self._database = database

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not ask the database for the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        """All of it.

        :raises oslo_db.exception.DBError: if the database cannot be asked.
        """
        context = get_admin_context(self._database)
        yield self._now(context)
        yield from self._ended(context)
        yield self._services(context)

    def _now(self, context: RequestContext) -> Metric:
        found = GaugeMetricFamily(
            "nova_snap_snapshots",
            "Snapshots that are asked for (no host has taken them up yet), queued (for one of "
            "max_concurrent_snapshots places) or running",
            labels=("host", "action", "phase"),
        )
        for host, action, phase, count in SnapshotRequest.count_by_phase(context):
            found.add_metric([host, action, phase], count)
        return found

    def _ended(self, context: RequestContext) -> Iterator[Metric]:
        count = CounterMetricFamily(
            "nova_snap_snapshots_ended",
            "Snapshots that have ended; the outcome is success or the class of the error",
            labels=_ENDED,
        )
        seconds = CounterMetricFamily(
            "nova_snap_snapshot_seconds",
            "Seconds that they took, from their place in the pool to the end",
            labels=_ENDED,
        )
        size = CounterMetricFamily(
            "nova_snap_snapshot_uploaded_bytes", "Bytes that they uploaded", labels=_ENDED
        )
        for total in SnapshotTotal.get_all(context):
            labels = [total.host, total.action, total.method, total.outcome]
            count.add_metric(labels, total.count)
            seconds.add_metric(labels, total.seconds)
            size.add_metric(labels, total.bytes)
        yield from (count, seconds, size)

    def _services(self, context: RequestContext) -> Metric:
        up = GaugeMetricFamily(
            "nova_snap_compute_service_up",
            "Whether a compute service reports (1), or is down (0)",
            labels=("host",),
        )
        for service in Service.get_all(context, binary=COMPUTE):
            up.add_metric([service.host], service.is_up(self._down_time))
        return up


class Application:
    """The endpoint, as a WSGI application.

    :param conf: ``[api] metrics_enabled`` says whether there is one.
    :param not_found: what answers if there is none.
    """

    def __init__(
        self, conf: cfg.ConfigOpts, database: Database, not_found: Callable[..., Iterable[bytes]]
    ) -> None:
        self._enabled: bool = conf.api.metrics_enabled
        self._not_found = not_found
        self._registry = prometheus_client.CollectorRegistry(auto_describe=False)
        self._registry.register(Snapshots(conf, database))

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        if not self._enabled:
            return self._not_found(environ, start_response)
        answer: Iterable[bytes] = self._response(environ)(environ, start_response)
        return answer

    def _response(self, environ: dict[str, Any]) -> webob.Response:
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            return webob.Response(status=405, headerlist=[("Allow", "GET, HEAD")])
        try:
            text = prometheus_client.generate_latest(self._registry)
        except db_exception.DBError:
            LOG.exception("There are no numbers: the database cannot be asked")
            return webob.Response(status=503)
        response = webob.Response(body=text)
        response.headers["Content-Type"] = prometheus_client.CONTENT_TYPE_LATEST
        return response
