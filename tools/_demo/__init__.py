# SPDX-License-Identifier: Apache-2.0
"""What ``tools/demo`` does. ``listeners`` needs nothing but Python, the others ``.venv``."""
