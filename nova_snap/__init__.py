# SPDX-License-Identifier: Apache-2.0
"""nova_snap: snapshots of libvirt instances, with Nova's API and Glance images."""
