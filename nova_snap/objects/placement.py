# SPDX-License-Identifier: Apache-2.0
"""What the instances take from the hosts that they are on."""

from nova_snap.context import RequestContext
from nova_snap.db import instance_queries


def memory_by_host(context: RequestContext) -> dict[str, int]:
    """MiB that the instances of each host have together; hosts with none are left out."""
    with context.db.reader() as session:
        return instance_queries.memory_by_host(session)
