# SPDX-License-Identifier: Apache-2.0
"""Input that nobody should send, made for hours: ``python -m tests.fuzz``."""
