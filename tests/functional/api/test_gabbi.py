# SPDX-License-Identifier: Apache-2.0
"""The suites in ``gabbits/``: requests and what is answered, as data.

One test a file, because a suite's requests build on each other. (gabbi's own plugin for pytest
would take part in collecting every test of the project.)
"""

import pathlib
import unittest

import pytest
from gabbi import handlers, suitemaker, utils

from tests.functional.api import gabbi_fixtures

SUITES = sorted((pathlib.Path(__file__).parent / "gabbits").glob("*.yaml"))


@pytest.mark.parametrize("path", SUITES, ids=lambda path: path.stem)
def test_suite(path: pathlib.Path) -> None:
    suite = suitemaker.test_suite_from_dict(
        unittest.TestLoader(),
        path.stem,
        utils.load_yaml(yaml_file=str(path)),
        str(path.parent),
        "compute.example.org",
        8774,
        gabbi_fixtures,
        lambda: gabbi_fixtures.application,
        handlers=[handler() for handler in handlers.RESPONSE_HANDLERS],
        test_loader_name="api",
    )
    result = unittest.TestResult()
    suite.run(result)
    problems = [
        f"{test.test_data['name']}:\n{report}"
        for test, report in [*result.errors, *result.failures]
    ]
    problems += [f"{test}: skipped because {reason}" for test, reason in result.skipped]
    if problems:
        pytest.fail("\n\n".join(problems), pytrace=False)
    assert result.testsRun == suite.countTestCases() > 0
