# SPDX-License-Identifier: Apache-2.0
"""Tests of the drivers, without a hypervisor."""
