# SPDX-License-Identifier: Apache-2.0
"""Which of the tests here are short enough to run every time.

``tox -e backends`` runs them all. ``tools/test``, which has no more than 25 minutes, runs those
marked ``short`` with the integration tests, whose servers they use too. A test is short if it needs
no more than the Ceph, Glance and Cinder of the session and one boot of a guest. Of every backend
there is at least the one that shows that a snapshot has the bytes of its point in time; failures,
restarts, other sizes and other ways to the same image are for ``tox -e backends``. All that is
short together may take three minutes, of which starting the servers is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.backends import rbd_parts
from tests.fixtures.ceph import Ceph
from tests.fixtures.glance import Glance
from tests.fixtures.libvirt_lab import LibvirtLab

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what is not short as long."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("short") is None:
            item.add_marker(pytest.mark.long)


@pytest.fixture(scope="module")
def lab(_session_lab: LibvirtLab) -> Iterator[LibvirtLab]:
    """The lab of the session, without the guests of other modules."""
    yield _session_lab
    _session_lab.remove_guests()


@pytest.fixture(scope="module")
def base(rbd_glance: Glance) -> str:
    """The image that the guests' disks are clones of."""
    return rbd_parts.base_image(rbd_glance)


@pytest.fixture(autouse=True)
def _mended_ceph(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that fails while Ceph is down shall not take those after it along."""
    used: Ceph | None = None
    if "ceph" in request.fixturenames:
        used = request.getfixturevalue("ceph")
    yield
    if used is not None:
        used.mend()
