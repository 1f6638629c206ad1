# SPDX-License-Identifier: Apache-2.0
"""What the tests of the API share."""

import pathlib
from collections.abc import Iterator

import pytest

from tests.functional.api.service import Service


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """A database with one instance of each kind."""
    made = Service(tmp_path_factory.mktemp("template"))
    made.populate()
    made.close()
    return made.path


@pytest.fixture
def service(tmp_path: pathlib.Path, template: pathlib.Path) -> Iterator[Service]:
    """The API over a database with one instance of each kind."""
    made = Service(tmp_path, template)
    yield made
    made.close()
