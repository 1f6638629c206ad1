# SPDX-License-Identifier: Apache-2.0
"""The whole cloud, for the tests that want all of it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fixtures.cloud import Cloud


@pytest.fixture(scope="session")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    """Keystone, Glance, RabbitMQ, MariaDB and nova_snap, shared by all tests."""
    with Cloud(tmp_path_factory.mktemp("cloud")) as made:
        yield made
