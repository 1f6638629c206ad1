# SPDX-License-Identifier: Apache-2.0
"""Tests on real QEMU, libvirt and Glance, all in this process."""
