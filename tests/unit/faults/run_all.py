# SPDX-License-Identifier: Apache-2.0
"""``nova-snap-all``, also where it is not installed."""

import sys

from nova_snap.cmd import all as nova_snap_all

if __name__ == "__main__":
    sys.exit(nova_snap_all.main())
