# SPDX-License-Identifier: Apache-2.0
"""What became of snapshots, in numbers that an operator watches."""

from typing import Final

from oslo_log import log

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.objects.snapshot_request import SnapshotTotal
from nova_snap.virt.driver import SnapshotReport

LOG = log.getLogger(__name__)

SUCCESS: Final = "success"
UNFORESEEN: Final = "unforeseen"
NO_METHOD: Final = "none"
CANCELLED: Final = "cancelled"


def name_of(error: Exception) -> str:
    """The class of an error's first cause, as far as it was foreseen."""
    cause = error.__cause__ if isinstance(error, exception.SnapshotFailed) else error
    if isinstance(cause, exception.ImageNotFound):
        # Whoever deletes the image while it is made cancels the snapshot, and nothing has failed.
        return CANCELLED
    return type(cause).__name__ if isinstance(cause, exception.NovaSnapError) else UNFORESEEN


def count(
    context: RequestContext,
    host: str,
    action: str,
    seconds: float,
    outcome: SnapshotReport | Exception,
) -> None:
    """Count a snapshot that has ended. Never raises: that is over, whatever the sums say.

    :param seconds: that it took, from its place in the pool on.
    """
    if isinstance(outcome, Exception):
        method, name, size = getattr(outcome, "method", NO_METHOD), name_of(outcome), 0
    else:
        method, name, size = outcome.method, SUCCESS, outcome.uploaded_bytes
    try:
        SnapshotTotal.add(context, host, action, method, name, seconds, size)
    except Exception:
        LOG.warning("A snapshot is not counted", exc_info=True)
