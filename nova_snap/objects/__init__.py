# SPDX-License-Identifier: Apache-2.0
"""What the service remembers, as objects over the database."""
