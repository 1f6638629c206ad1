# SPDX-License-Identifier: Apache-2.0
"""Entry points: parse the configuration, build the parts, run them.

The threading backend of oslo.service must be chosen before oslo.messaging is imported for the
first time: that import settles on eventlet where nothing was chosen.
"""

from oslo_service import backend

backend.init_backend(backend.BackendType.THREADING)
