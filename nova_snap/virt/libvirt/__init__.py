# SPDX-License-Identifier: Apache-2.0
"""The libvirt driver and what it is made of."""
