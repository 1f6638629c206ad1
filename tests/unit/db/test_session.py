# SPDX-License-Identifier: Apache-2.0
"""Where an SQLite database lies."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from oslo_config import cfg

from nova_snap.db import migration
from nova_snap.db.session import Database


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.usefixtures("umask")
def test_sqlite_is_private_in_a_directory_that_the_hypervisor_passes_through(
    conf: cfg.ConfigOpts, tmp_path: Path
) -> None:
    path = tmp_path / "var" / "lib" / "nova_snap.sqlite"
    conf.set_override("connection", f"sqlite:///{path}", "database")
    database = Database(conf)
    migration.sync(database)
    database.engine.dispose()
    modes = [stat.S_IMODE(os.stat(each).st_mode) for each in (path.parent.parent, path.parent)]
    assert modes == [0o711, 0o711]
    beside = list(path.parent.iterdir())
    assert path in beside
    assert {stat.S_IMODE(os.stat(each).st_mode) for each in beside} == {0o600}
    # And it is opened again as it is.
    again = Database(conf)
    migration.sync(again)
    again.engine.dispose()


@pytest.mark.parametrize("name", ["nova_snap.sqlite", "data/nova_snap.sqlite"])
def test_so_is_one_below_the_working_directory(
    conf: cfg.ConfigOpts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    conf.set_override("connection", f"sqlite:///{name}", "database")
    database = Database(conf)
    migration.sync(database)
    database.engine.dispose()
    assert stat.S_IMODE(os.stat(tmp_path / name).st_mode) == 0o600


@pytest.mark.parametrize(
    "url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:nova_snap?mode=memory&uri=true"]
)
def test_one_in_memory_makes_no_file(
    conf: cfg.ConfigOpts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    conf.set_override("connection", url, "database")
    database = Database(conf)
    with database.engine.connect():
        pass
    database.engine.dispose()
    assert list(tmp_path.iterdir()) == []
