# SPDX-License-Identifier: Apache-2.0
"""Servers that take the place of real ones, and refuse, stall, truncate and lie when told to."""
