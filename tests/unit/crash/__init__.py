# SPDX-License-Identifier: Apache-2.0
"""What tests/crash and tests/outages would notice."""
