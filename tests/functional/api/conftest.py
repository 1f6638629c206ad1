# SPDX-License-Identifier: Apache-2.0
"""What the tests of the API share."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.functional.api.service import Service


@pytest.fixture
def service(tmp_path: pathlib.Path) -> Iterator[Service]:
    """The API over a database with one instance of each kind."""
    made = Service(tmp_path)
    made.populate()
    yield made
    made.close()
