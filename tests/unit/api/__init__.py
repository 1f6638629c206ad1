# SPDX-License-Identifier: Apache-2.0
"""Tests of the API's logic that needs no application."""
