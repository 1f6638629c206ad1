# SPDX-License-Identifier: Apache-2.0
"""A short selection of Tempest's tests; ``tox -e tempest`` runs all that are in scope."""

from __future__ import annotations

from pathlib import Path

from tests.fixtures.cloud import Cloud
from tests.tempest import lists
from tests.tempest.config import write_config
from tests.tempest.run import Tempest


def test_a_short_selection(cloud: Cloud, tmp_path: Path) -> None:
    config = tmp_path / "tempest.conf"
    write_config(config, cloud)
    tempest = Tempest(config)
    assert tempest.discover() == sorted(lists.entries(lists.PASSING)), "the lists are out of date"

    wanted = list(lists.entries(lists.SHORT))
    verdict = lists.Verdict.of(tempest.run_only(wanted, concurrency=2), wanted)
    assert verdict.good, verdict
