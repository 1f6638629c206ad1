# SPDX-License-Identifier: Apache-2.0
"""Tests of the REST API: the whole WSGI application, in this process, over a real database."""
