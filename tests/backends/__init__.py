# SPDX-License-Identifier: Apache-2.0
"""Snapshots of disks in real storage backends."""
