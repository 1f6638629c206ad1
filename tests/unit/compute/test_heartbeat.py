# SPDX-License-Identifier: Apache-2.0
"""Signs of life, with a database that comes and goes."""

import logging
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_config import cfg
from oslo_db import exception as db_exception

from nova_snap import exception
from nova_snap.compute.heartbeat import Heartbeat
from nova_snap.context import get_admin_context
from nova_snap.db.session import Database
from nova_snap.objects.service import ComputeNode, Service
from nova_snap.virt.driver import HostResources
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST

SOON = 20


class Host(FakeDriver):
    """A host whose hypervisor may be away."""

    away = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.answers = threading.Event()
        self.answers.set()
        self.asked = threading.Event()

    def host_resources(self) -> HostResources:
        self.asked.set()
        self.answers.wait(60)
        if self.away:
            raise exception.HypervisorUnavailable(uri="test:///", reason="away")
        return super().host_resources()


@pytest.fixture
def driver(conf: cfg.ConfigOpts) -> Host:
    return Host(conf, MemoryImages())


@pytest.fixture
def heartbeat(conf: cfg.ConfigOpts, database: Database, driver: Host) -> Iterator[Heartbeat]:
    """Reports every second."""
    conf.set_override("report_interval", 1)
    made = Heartbeat(conf, database, driver)
    yield made
    made.stop()


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.05)


def service(database: Database) -> Service:
    return Service.get_by_host(get_admin_context(database), HOST)


def test_who_starts_is_up_at_once_and_says_what_the_host_has(
    database: Database, heartbeat: Heartbeat
) -> None:
    heartbeat.start()
    found = service(database)
    assert found.is_up(60)
    (node,) = ComputeNode.get_all(get_admin_context(database))
    assert node.service.uuid == found.uuid
    assert node.resources["hypervisor_type"] == "fake"
    assert node.resources["vcpus"] > 0


def test_reports_go_on_until_the_stop(database: Database, heartbeat: Heartbeat) -> None:
    heartbeat.start()
    wait_until(lambda: service(database).report_count >= 2)
    heartbeat.stop()
    assert not heartbeat._thread.is_alive()


def test_a_database_that_is_away_for_a_while_ends_nothing(
    database: Database, heartbeat: Heartbeat, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    path = pathlib.Path(str(database.engine.url.database))
    heartbeat.start()
    away = path.with_name("away")
    database.close()
    path.rename(away)
    path.mkdir()
    wait_until(lambda: "Lost the connection" in caplog.text)
    path.rmdir()
    away.rename(path)
    before = service(database).report_count
    wait_until(lambda: service(database).report_count > before)
    wait_until(lambda: "Reports again" in caplog.text)
    assert caplog.text.count("Lost the connection") == 1


def test_nothing_starts_without_a_database(
    conf: cfg.ConfigOpts, database: Database, heartbeat: Heartbeat
) -> None:
    path = pathlib.Path(str(database.engine.url.database))
    database.close()
    path.unlink()
    path.mkdir()
    with pytest.raises(db_exception.DBError):
        heartbeat.start()


def test_a_deleted_service_that_lives_comes_back(database: Database, heartbeat: Heartbeat) -> None:
    heartbeat.start()
    context = get_admin_context(database)
    before = service(database)
    before.destroy(context)
    wait_until(lambda: bool(Service.get_all(context)))
    assert service(database).uuid != before.uuid
    wait_until(lambda: bool(ComputeNode.get_all(context)))


def test_one_that_is_deleted_while_it_ends_its_work_comes_back_as_that(
    database: Database, heartbeat: Heartbeat, caplog: pytest.LogCaptureFixture
) -> None:
    """Others see that its work is not lost, and send it nothing new."""
    context = get_admin_context(database)
    heartbeat.start()
    before = service(database)
    heartbeat.drain()
    # That is what only a report of an end changes.
    wait_until(lambda: service(database).updated_at is not None)
    seen = service(database).last_seen_up
    service(database).destroy(context)
    wait_until(lambda: bool(Service.get_all(context)))
    again = service(database)
    assert (again.uuid == before.uuid, again.last_seen_up) == (False, seen)
    wait_until(lambda: service(database).report_count > again.report_count)
    now = service(database)
    assert (now.last_seen_up, now.last_sign > now.created_at) == (seen, True)
    assert "Lost the connection" not in caplog.text


def test_a_hypervisor_that_is_away_stops_no_report(
    database: Database, heartbeat: Heartbeat, driver: Host
) -> None:
    driver.away = True
    heartbeat.start()
    assert service(database).is_up(60)
    assert ComputeNode.get_all(get_admin_context(database)) == []


def test_a_hypervisor_that_hangs_holds_up_no_report(
    conf: cfg.ConfigOpts, database: Database, driver: Host
) -> None:
    conf.set_override("report_interval", 1)
    conf.set_override("update_resources_interval", 1)
    heartbeat = Heartbeat(conf, database, driver)
    heartbeat.start()
    driver.answers.clear()
    driver.asked.clear()
    assert driver.asked.wait(SOON)
    before = service(database).report_count
    wait_until(lambda: service(database).report_count >= before + 2)
    driver.answers.set()
    heartbeat.stop()
