# SPDX-License-Identifier: Apache-2.0
"""What is left of a snapshot when a server that it needs refuses, stalls, truncates or lies."""
