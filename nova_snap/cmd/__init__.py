# SPDX-License-Identifier: Apache-2.0
"""Entry points: parse the configuration, build the parts, run them.

The threading backend of oslo.service must be chosen before oslo.messaging is imported for the
first time: that import settles on eventlet where nothing was chosen. futurist even imports
eventlet wherever it is installed, and oslo.service installs it: here the import is closed.
"""

import sys

sys.modules.setdefault("eventlet", None)  # type: ignore[arg-type]

from oslo_service import backend  # noqa: E402

backend.init_backend(backend.BackendType.THREADING)
