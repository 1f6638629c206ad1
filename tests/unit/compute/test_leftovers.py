# SPDX-License-Identifier: Apache-2.0
"""What a snapshot could not put right is tried again, where nothing else is being done."""

import threading
from collections.abc import Sequence

import pytest
from oslo_config import cfg
from oslo_db import exception as db_exception

from nova_snap import exception
from nova_snap.compute import task_states
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.leftovers import Leftovers
from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.virt.driver import InstanceLike
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import HOST, make_instance, table_away


class Host(FakeDriver):
    """:ivar left: instances that have something left. :ivar tried: for which it was tried.

    :ivar broken: one for which it fails as nobody foresees.
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        super().__init__(conf, MemoryImages())
        self.left: list[str] = []
        self.tried: list[str] = []
        self.away = False
        self.broken = ""
        self.asked = threading.Event()

    def unfinished(self) -> Sequence[str]:
        return self.left

    def clean_up_after_restart(self, instance: InstanceLike) -> Sequence[str]:
        self.tried.append(instance.uuid)
        self.asked.set()
        if self.away:
            raise exception.HypervisorUnavailable(uri="test:///", reason="away")
        if instance.uuid == self.broken:
            raise ValueError("nobody foresaw that")
        self.left.remove(instance.uuid)
        return ()


@pytest.fixture
def host(conf: cfg.ConfigOpts) -> Host:
    return Host(conf)


@pytest.fixture
def locks() -> InstanceLocks:
    return InstanceLocks()


@pytest.fixture
def leftovers(host: Host, locks: InstanceLocks) -> Leftovers:
    return Leftovers(HOST, host, locks, seconds=0.05)


def test_it_is_put_right(context: RequestContext, host: Host, leftovers: Leftovers) -> None:
    instance = make_instance(context)
    host.left = [instance.uuid]
    leftovers.clean_up(context)
    assert (host.tried, host.left) == ([instance.uuid], [])


def test_not_where_something_is_being_done(
    context: RequestContext, host: Host, locks: InstanceLocks, leftovers: Leftovers
) -> None:
    busy = make_instance(context, task_state=task_states.IMAGE_UPLOADING)
    held = make_instance(context, name="instance-00000002")
    elsewhere = make_instance(context, name="instance-00000003", host="compute-2")
    nobody = "11111111-1111-1111-1111-111111111111"
    host.left = [busy.uuid, held.uuid, elsewhere.uuid, nobody]
    with locks.hold(held.uuid, 1):
        leftovers.clean_up(context)
    assert host.tried == []
    leftovers.clean_up(context)
    assert host.tried == [held.uuid]


def test_ever_later(context: RequestContext, host: Host) -> None:
    """A guest that cannot be put right is not asked all the time."""
    instance = make_instance(context)
    leftovers = Leftovers(HOST, host, InstanceLocks(), seconds=3600)
    host.left, host.away = [instance.uuid], True
    for _ in range(3):
        leftovers.clean_up(context)
    assert host.tried == [instance.uuid]
    # The next one has nothing to do with it.
    host.left = []
    leftovers.clean_up(context)
    host.left, host.away = [instance.uuid], False
    leftovers.clean_up(context)
    assert host.tried == [instance.uuid] * 2


def test_one_that_fails_keeps_no_other_waiting(
    context: RequestContext, host: Host, leftovers: Leftovers
) -> None:
    """Whatever it is: they are looked at in the order of their ids, again and again."""
    one = make_instance(context)
    other = make_instance(context, name="instance-00000002")
    first, second = sorted([one.uuid, other.uuid])
    host.left, host.broken = [first, second], first
    leftovers.clean_up(context)
    assert host.tried == [first, second]


def test_without_the_database_it_is_for_the_next_time(
    context: RequestContext, database: Database, host: Host, leftovers: Leftovers
) -> None:
    """It is no fault of the first instance's, and not said of each of them."""
    host.left = [make_instance(context).uuid]
    with table_away(database, "instances"), pytest.raises(db_exception.DBError):
        leftovers.clean_up(context)
    assert len(host.left) == 1
    leftovers.clean_up(context)
    assert host.left == []


def test_by_a_thread_of_its_own(
    context: RequestContext, database: Database, host: Host, leftovers: Leftovers
) -> None:
    host.left = [make_instance(context).uuid]
    thread = leftovers.periodic(database)
    thread.start()
    assert host.asked.wait(20)
    thread.stop()
