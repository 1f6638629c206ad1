# SPDX-License-Identifier: Apache-2.0
"""The crash matrix: a compute process is killed anywhere in a snapshot, and nothing is lost."""
