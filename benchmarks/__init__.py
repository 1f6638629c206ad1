# SPDX-License-Identifier: Apache-2.0
"""What a snapshot costs, beside the same done by hand and beside the bare upload."""
