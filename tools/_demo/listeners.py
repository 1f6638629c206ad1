# SPDX-License-Identifier: Apache-2.0
"""The services of the demonstration that listen at a port."""

from tools._common.ports import Listener

NOVA_SNAP = Listener("nova-snap-all", "NOVA_SNAP_PORT", 8774)
GLANCE = Listener("Glance", "GLANCE_PORT", 9292)
LISTENERS = (NOVA_SNAP, GLANCE)
