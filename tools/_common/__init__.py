# SPDX-License-Identifier: Apache-2.0
"""What ``tools/demo`` and ``tools/cloud`` have in common.

``errors``, ``home``, ``processes``, ``ports``, ``environment``, ``screen`` and ``command`` need
nothing but Python: the system's runs them before there is a virtualenv.
"""
