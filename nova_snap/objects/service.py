# SPDX-License-Identifier: Apache-2.0
"""Which services there are, which of them are alive, and what their hosts have."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Any, Final

from oslo_db import exception as db_exception
from oslo_utils import timeutils

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.db import models, service_queries
from nova_snap.db.session import retry_on_deadlock

COMPUTE: Final = "nova-compute"
"""The binary of a compute service, by Nova's name: clients and operators look for that one."""

VERSION: Final = 1
"""What this code's services can do, as a number that grows with every step of an upgrade."""


@dataclasses.dataclass
class Service:
    """A process that reports every ``report_interval`` seconds.

    :ivar last_seen_up: its last report, in UTC by the clock of its host.
    :ivar disabled: it gets no new instances; those it has are served as before.
    :ivar forced_down: somebody knows better than the reports: the host is down.
    """

    id: int
    uuid: str
    host: str
    binary: str
    topic: str
    report_count: int
    last_seen_up: datetime.datetime | None
    disabled: bool
    disabled_reason: str | None
    forced_down: bool
    version: int
    created_at: datetime.datetime
    updated_at: datetime.datetime | None

    @classmethod
    def register(
        cls,
        context: RequestContext,
        host: str,
        binary: str,
        topic: str,
        last_seen_up: datetime.datetime | None = None,
    ) -> Service:
        """The service's row, made if there is none, with a report in it.

        :param last_seen_up: of when that report is, if not of now.
        """
        seen = last_seen_up or timeutils.utcnow()
        try:
            return cls._register(context, host, binary, topic, seen)
        except db_exception.DBDuplicateEntry:
            # Another process of that name was faster by a moment.
            return cls._register(context, host, binary, topic, seen)

    @classmethod
    @retry_on_deadlock
    def _register(
        cls,
        context: RequestContext,
        host: str,
        binary: str,
        topic: str,
        last_seen_up: datetime.datetime,
    ) -> Service:
        values = {"topic": topic, "version": VERSION, "last_seen_up": last_seen_up}
        with context.db.writer() as session:
            row = service_queries.service_register(session, host, binary, values)
            return cls._from_row(row)

    @classmethod
    def get_by_id(cls, context: RequestContext, service_id: int) -> Service:
        """:raises nova_snap.exception.ServiceNotFound:"""
        return cls._find(context, service_id, id=service_id)

    @classmethod
    def get_by_uuid(cls, context: RequestContext, uuid: str) -> Service:
        """:raises nova_snap.exception.ServiceNotFound:"""
        return cls._find(context, uuid, uuid=uuid)

    @classmethod
    def get_by_host(cls, context: RequestContext, host: str, binary: str = COMPUTE) -> Service:
        """:raises nova_snap.exception.HostBinaryNotFound:"""
        with context.db.reader() as session:
            row = service_queries.service_get(session, host, binary)
            if row is None:
                raise exception.HostBinaryNotFound(host=host, binary=binary)
            return cls._from_row(row)

    @classmethod
    def get_all(
        cls, context: RequestContext, *, host: str | None = None, binary: str | None = None
    ) -> list[Service]:
        """The services, in the order in which they were first seen."""
        with context.db.reader() as session:
            return [cls._from_row(row) for row in service_queries.services(session, host, binary)]

    @classmethod
    def get_up(cls, context: RequestContext, down_time: float) -> list[Service]:
        """The compute services that new work may go to: alive and enabled.

        :param down_time: seconds, see :meth:`is_up`.
        """
        found = cls.get_all(context, binary=COMPUTE)
        return [each for each in found if each.is_up(down_time) and not each.disabled]

    def is_up(self, down_time: float) -> bool:
        """Whether it has reported within ``down_time`` seconds and nobody has said otherwise.

        The clocks of the hosts are compared: a report from the future is as old as one from the
        past, so that a clock that is wrong does not keep a dead host alive for long.
        """
        if self.forced_down:
            return False
        last = self.last_seen_up or self.created_at
        return abs((timeutils.utcnow() - last).total_seconds()) <= down_time

    def report(self, context: RequestContext) -> None:
        """Say that the service is alive.

        :raises nova_snap.exception.ServiceNotFound: if somebody has deleted it.
        """
        now = timeutils.utcnow()
        with context.db.writer() as session:
            if not service_queries.service_report(session, self.id, now):
                raise exception.ServiceNotFound(service_id=self.uuid)
        self.report_count += 1
        self.last_seen_up = now

    def report_ending(self, context: RequestContext) -> None:
        """Say that the service ends what it has begun, and takes nothing new: it will be down, but
        what runs there is not lost. See :attr:`last_sign`.

        :raises nova_snap.exception.ServiceNotFound: if somebody has deleted it.
        """
        with context.db.writer() as session:
            if not service_queries.service_ends_work(session, self.id):
                raise exception.ServiceNotFound(service_id=self.uuid)

    @property
    def last_sign(self) -> datetime.datetime:
        """When it was last known to do anything; :attr:`last_seen_up` is when it took new work. An
        administrator who changes something counts as well: better late than wrongly dead."""
        signs = (self.created_at, self.updated_at, self.last_seen_up)
        return max(sign for sign in signs if sign is not None)

    def save(self, context: RequestContext) -> None:
        """Write what an administrator may change: disabled, disabled_reason, forced_down.

        :raises nova_snap.exception.ServiceNotFound: if it was deleted meanwhile.
        """
        names = ("disabled", "disabled_reason", "forced_down")
        values = {name: getattr(self, name) for name in names}
        with context.db.writer() as session:
            if not service_queries.service_update(session, self.id, values):
                raise exception.ServiceNotFound(service_id=self.uuid)

    def destroy(self, context: RequestContext) -> None:
        """Delete it with its compute node. A service that lives registers again.

        :raises nova_snap.exception.ServiceNotFound: if it was deleted meanwhile.
        """
        with context.db.writer() as session:
            if not service_queries.service_delete(session, self.id):
                raise exception.ServiceNotFound(service_id=self.uuid)

    @classmethod
    def _find(cls, context: RequestContext, given: object, **by: Any) -> Service:
        with context.db.reader() as session:
            row = service_queries.service_find(session, **by)
            if row is None:
                raise exception.ServiceNotFound(service_id=given)
            return cls._from_row(row)

    @classmethod
    def _from_row(cls, row: models.Service) -> Service:
        return cls(**{field.name: getattr(row, field.name) for field in dataclasses.fields(cls)})


@dataclasses.dataclass(frozen=True)
class ComputeNode:
    """A hypervisor.

    :ivar resources: what its driver says: the fields of
        :class:`nova_snap.virt.driver.HostResources`; empty until it has said something.
    """

    id: int
    uuid: str
    resources: Mapping[str, Any]
    service: Service

    @property
    def hypervisor_hostname(self) -> str:
        """The name of the service's host: there is one hypervisor on each."""
        return self.service.host

    @classmethod
    def record(
        cls, context: RequestContext, service: Service, resources: Mapping[str, Any]
    ) -> None:
        """Keep what a service's driver says of its host."""
        with context.db.writer() as session:
            service_queries.compute_node_record(session, service.id, resources)

    @classmethod
    def get_by_id(cls, context: RequestContext, node_id: int) -> ComputeNode:
        """:raises nova_snap.exception.ComputeHostNotFound:"""
        return cls._find(context, node_id, id=node_id)

    @classmethod
    def get_by_uuid(cls, context: RequestContext, uuid: str) -> ComputeNode:
        """:raises nova_snap.exception.ComputeHostNotFound:"""
        return cls._find(context, uuid, uuid=uuid)

    @classmethod
    def get_all(
        cls,
        context: RequestContext,
        *,
        pattern: str | None = None,
        limit: int | None = None,
        marker: int | None = None,
    ) -> list[ComputeNode]:
        """Compute nodes by id.

        :param pattern: a part of the host's name.
        :param marker: the id of the last one of the page before.
        """
        with context.db.reader() as session:
            rows = service_queries.compute_nodes(
                session, pattern=pattern, after=marker, limit=limit
            )
            return [cls._from_rows(*row) for row in rows]

    @classmethod
    def _find(cls, context: RequestContext, given: object, **by: Any) -> ComputeNode:
        with context.db.reader() as session:
            rows = service_queries.compute_nodes(session, **by)
            if not rows:
                raise exception.ComputeHostNotFound(host=given)
            return cls._from_rows(*rows[0])

    @classmethod
    def _from_rows(cls, node: models.ComputeNode, service: models.Service) -> ComputeNode:
        return cls(
            id=node.id,
            uuid=node.uuid,
            resources=node.resources,
            service=Service._from_row(service),
        )
