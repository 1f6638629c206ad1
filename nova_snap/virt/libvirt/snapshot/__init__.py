# SPDX-License-Identifier: Apache-2.0
"""The snapshot methods, one module each, and the choice between them."""
