# SPDX-License-Identifier: Apache-2.0
"""Hundreds of requests at once against an installation with two compute hosts: ``tox -e load``."""
