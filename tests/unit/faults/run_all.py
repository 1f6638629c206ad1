# SPDX-License-Identifier: Apache-2.0
"""``nova-snap-all``, also where it is not installed."""

import sys

from nova_snap.cmd import all as nova_snap_all
from nova_snap.compute import manager

if __name__ == "__main__":
    # What hangs when it was cancelled does not end in half a minute either.
    manager._CANCEL_SECONDS = 2.0  # type: ignore[misc]
    sys.exit(nova_snap_all.main())
