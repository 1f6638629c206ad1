# SPDX-License-Identifier: Apache-2.0
"""The services of the cloud that listen at a port of the user's choice."""

from tools._common.ports import Listener

NOVA_SNAP = Listener("nova-snap-api", "NOVA_SNAP_PORT", 8774)
KEYSTONE = Listener("Keystone", "KEYSTONE_PORT", 5000)
GLANCE = Listener("Glance", "GLANCE_PORT", 9292)
LISTENERS = (NOVA_SNAP, KEYSTONE, GLANCE)
