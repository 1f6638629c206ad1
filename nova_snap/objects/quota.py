# SPDX-License-Identifier: Apache-2.0
"""How much of what is limited a project uses."""

from __future__ import annotations

import dataclasses

from nova_snap.context import RequestContext
from nova_snap.db import instance_queries


@dataclasses.dataclass(frozen=True)
class Usage:
    """An amount of each limited resource.

    :ivar cores: virtual CPUs. :ivar ram: MiB.
    """

    instances: int
    cores: int
    ram: int

    @classmethod
    def of_project(cls, context: RequestContext, project_id: str) -> Usage:
        """What its instances have that are not deleted, in whatever state they are."""
        with context.db.reader() as session:
            return cls(*instance_queries.usage_of_project(session, project_id))
