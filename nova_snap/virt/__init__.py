# SPDX-License-Identifier: Apache-2.0
"""Hypervisor drivers. Knows no database."""
