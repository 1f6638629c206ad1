# SPDX-License-Identifier: Apache-2.0
"""The data path, against real servers."""
