# SPDX-License-Identifier: Apache-2.0
"""The compute API, its RPC side and the manager that does the work on a host."""
