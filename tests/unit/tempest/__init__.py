# SPDX-License-Identifier: Apache-2.0
"""Tests of the lists that a run of Tempest is held against."""
