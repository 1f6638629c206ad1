# SPDX-License-Identifier: Apache-2.0
"""Tests of logic that needs nothing but Python."""
