# SPDX-License-Identifier: Apache-2.0
"""What tests/fuzz would notice."""
