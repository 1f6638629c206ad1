# SPDX-License-Identifier: Apache-2.0
"""The REST API: the only room that knows HTTP."""
