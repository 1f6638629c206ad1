# SPDX-License-Identifier: Apache-2.0
"""What a snapshot needs is killed in the middle of it and comes back, and nothing is lost."""
