# SPDX-License-Identifier: Apache-2.0
"""A compute service's sign of life, and what its host has, in the database.

A hypervisor that does not answer holds up only the second. The database may be away for a while:
the service goes on with what it does, is shown as down after ``service_down_time``, and reports
again when the database is back.

One that is being stopped takes no new work, and is soon shown as down. It says that it is there all
the same, as long as it lets end what runs: others would think that this was lost.
"""

import dataclasses
import datetime
import threading

from oslo_config import cfg
from oslo_db import exception as db_exception
from oslo_log import log

from nova_snap import exception
from nova_snap.context import get_admin_context
from nova_snap.db.session import Database
from nova_snap.objects.service import COMPUTE, ComputeNode, Service
from nova_snap.virt.driver import ComputeDriver

LOG = log.getLogger(__name__)

# How long a stop waits for a report that is under way.
_STOP_TIMEOUT = 5


class Heartbeat:
    """Reports every ``report_interval`` seconds, by a thread of its own.

    :param driver: says what the host has, every ``update_resources_interval`` seconds; asked by
        another thread, because it may take its time.
    """

    def __init__(self, conf: cfg.ConfigOpts, database: Database, driver: ComputeDriver) -> None:
        self._host: str = conf.host
        self._topic: str = conf.rpc.compute_topic
        self._address: str = conf.my_ip
        self._interval: int = conf.report_interval
        self._resources_interval: int = conf.update_resources_interval
        self._context = get_admin_context(database)
        self._driver = driver
        self._service: Service | None = None
        self._reporting = True
        self._draining = False
        self._resources_due = threading.Event()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._resources = threading.Thread(
            target=self._run_resources, name="host-resources", daemon=True
        )

    def start(self) -> None:
        """Report for the first time, then go on until :meth:`stop`.

        :raises oslo_db.exception.DBError: if the database cannot be used: a service does not
            begin without one.
        """
        self._report()
        self._record_resources()
        self._thread.start()
        self._resources.start()

    def drain(self) -> None:
        """Report from now on only that what runs goes on: the service is shown as down after
        ``service_down_time``, and what the host has is recorded no more."""
        self._draining = True
        self._resources_due.set()

    def stop(self) -> None:
        """Report no more."""
        self._stopped.set()
        self._resources_due.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_TIMEOUT)

    def _run(self) -> None:
        while not self._stopped.wait(self._interval):
            self._try_report()

    def _try_report(self) -> None:
        """One report. Whatever goes wrong, the next one is tried: said once, not every time."""
        try:
            self._report()
        except Exception as error:
            if self._reporting:
                foreseen = isinstance(error, db_exception.DBError)
                LOG.error("Lost the connection to report by: %s", error, exc_info=not foreseen)
            self._reporting = False
        else:
            if not self._reporting:
                LOG.info("Reports again: the connection is back")
            self._reporting = True

    def _report(self) -> None:
        if self._service is None:
            self._service = self._register()
            return
        try:
            if self._draining:
                self._service.report_ending(self._context)
            else:
                self._service.report(self._context)
        except exception.ServiceNotFound:
            LOG.warning("Somebody deleted this service: it registers again")
            # While it ends its work it is not up for new work by that.
            self._service = self._register(self._service.last_seen_up if self._draining else None)
            self._resources_due.set()

    def _register(self, last_seen_up: datetime.datetime | None = None) -> Service:
        return Service.register(
            self._context, self._host, COMPUTE, self._topic, last_seen_up=last_seen_up
        )

    # -- what the host has ---------------------------------------------------------------------

    def _run_resources(self) -> None:
        while True:
            self._resources_due.wait(self._resources_interval)
            self._resources_due.clear()
            if self._draining or self._stopped.is_set():
                return
            try:
                self._record_resources()
            except Exception as error:
                foreseen = isinstance(error, db_exception.DBError)
                LOG.warning("What this host has is not recorded: %s", error, exc_info=not foreseen)

    def _record_resources(self) -> None:
        try:
            resources = self._driver.host_resources()
        except exception.NovaSnapError as error:
            LOG.warning("The hypervisor does not say what this host has: %s", error)
            return
        found = {**dataclasses.asdict(resources), "host_ip": self._address}
        if self._service is not None:
            ComputeNode.record(self._context, self._service, found)
