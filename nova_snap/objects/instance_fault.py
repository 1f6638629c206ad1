# SPDX-License-Identifier: Apache-2.0
"""Why an instance failed, as the API shows it."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Sequence

from nova_snap.context import RequestContext
from nova_snap.db import models, queries
from nova_snap.db.session import retry_on_failover

_MESSAGE_LENGTH = 255


@dataclasses.dataclass(frozen=True)
class InstanceFault:
    """:ivar message: for the user. :ivar details: for the operator, such as a traceback."""

    instance_uuid: str
    code: int
    message: str
    details: str | None
    host: str | None
    created_at: datetime.datetime | None = None

    @retry_on_failover
    def create(self, context: RequestContext) -> None:
        """Add it to the database; a message is cut to 255 characters."""
        with context.db.writer() as session:
            session.add(
                models.InstanceFault(
                    instance_uuid=self.instance_uuid,
                    code=self.code,
                    message=self.message[:_MESSAGE_LENGTH],
                    details=self.details,
                    host=self.host,
                )
            )

    @classmethod
    def latest_by_instance_uuids(
        cls, context: RequestContext, uuids: Sequence[str]
    ) -> dict[str, InstanceFault]:
        """The newest fault of each instance that has one, with one query."""
        with context.db.reader() as session:
            return {
                row.instance_uuid: cls(
                    instance_uuid=row.instance_uuid,
                    code=row.code,
                    message=row.message,
                    details=row.details,
                    host=row.host,
                    created_at=row.created_at,
                )
                for row in queries.latest_faults(session, uuids)
            }
