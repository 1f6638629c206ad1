# SPDX-License-Identifier: Apache-2.0
"""The suites in ``gabbits/``: requests and what is answered, as data."""

import pathlib

import pytest
from gabbi import driver

# This is the test that each request of a suite becomes.
from gabbi.driver import test_pytest  # noqa: F401

from tests.functional.api import gabbi_fixtures

SUITES = pathlib.Path(__file__).parent / "gabbits"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    driver.py_test_generator(
        str(SUITES),
        intercept=lambda: gabbi_fixtures.application,
        test_loader_name="api",
        fixture_module=gabbi_fixtures,
        metafunc=metafunc,
    )
