# SPDX-License-Identifier: Apache-2.0
"""What requests and answers look like, as JSON Schema (2020-12), one module per noun."""
