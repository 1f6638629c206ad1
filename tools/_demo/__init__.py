# SPDX-License-Identifier: Apache-2.0
"""What ``tools/demo`` does.

``errors``, ``home``, ``processes``, ``ports``, ``environment`` and ``screen`` need nothing but
Python; the others run in the virtualenv that ``environment`` makes.
"""
