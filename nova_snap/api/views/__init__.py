# SPDX-License-Identifier: Apache-2.0
"""What a resource looks like in an answer, by microversion."""
