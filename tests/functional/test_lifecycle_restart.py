# SPDX-License-Identifier: Apache-2.0
"""The compute process is killed while it makes an instance: nothing of it need stay."""

import hashlib
import uuid

import pytest

from tests.functional import spawn_child

CACHED = hashlib.sha1(spawn_child.IMAGE.encode(), usedforsecurity=False).hexdigest()


@pytest.mark.parametrize(
    ("point", "domains", "cached", "files"),
    [
        ("download", [], [f"{CACHED}.part"], False),
        ("disk", [], [CACHED], True),
        ("domain", [spawn_child.NAME], [CACHED], True),
        ("end", [spawn_child.NAME], [CACHED], True),
    ],
)
def test_killed(detached_libvirt_lab, tmp_path, point, domains, cached, files):
    instance = str(uuid.uuid4())
    left = spawn_child.run(detached_libvirt_lab, tmp_path, point, instance)
    assert left == {
        "domains": domains, "cached": cached, "files": [instance] if files else [],
    }  # fmt: skip
    # The next process removes what it is told of, and broken downloads by itself.
    left = spawn_child.run(detached_libvirt_lab, tmp_path, "recover", instance)
    assert left == {"domains": [], "cached": [CACHED] if files else [], "files": []}
    left = spawn_child.run(detached_libvirt_lab, tmp_path, "end", instance)
    assert left["domains"] == [spawn_child.NAME]
