# SPDX-License-Identifier: Apache-2.0
"""What ``tools/cloud`` does. ``listeners`` and ``state`` need nothing but Python, the rest
``.venv``.
"""
