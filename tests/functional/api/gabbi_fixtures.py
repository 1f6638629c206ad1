# SPDX-License-Identifier: Apache-2.0
"""What the YAML suites stand on: each has an API and a database of its own."""

import pathlib
import tempfile
from collections.abc import Iterable
from typing import Any

from gabbi import fixture

from tests.functional.api.service import Service


class ServiceFixture(fixture.GabbiFixture):
    """The API over a database with one instance of each kind."""

    current: Service | None = None

    def start_fixture(self) -> None:
        self._directory = tempfile.TemporaryDirectory()
        ServiceFixture.current = Service(pathlib.Path(self._directory.name))
        ServiceFixture.current.populate()

    def stop_fixture(self) -> None:
        assert ServiceFixture.current is not None
        ServiceFixture.current.close()
        ServiceFixture.current = None
        self._directory.cleanup()


def application(environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
    """The API of the suite that runs."""
    assert ServiceFixture.current is not None, "the suite does not name ServiceFixture"
    return ServiceFixture.current.app(environ, start_response)
