# SPDX-License-Identifier: Apache-2.0
"""Hundreds of real snapshots in a row, after which nothing has grown: ``tox -e soak``."""
