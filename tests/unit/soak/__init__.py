# SPDX-License-Identifier: Apache-2.0
"""Tests of what decides whether something has grown."""
