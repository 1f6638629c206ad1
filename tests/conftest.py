# SPDX-License-Identifier: Apache-2.0
"""What every test may use."""

# The first import of the tests too: it chooses oslo.service's backend and closes eventlet.
import nova_snap.cmd  # noqa: F401

pytest_plugins = ["tests.fixtures.service", "tests.fixtures.plugin"]
