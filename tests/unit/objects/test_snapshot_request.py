# SPDX-License-Identifier: Apache-2.0
"""The journal of snapshots. The same tests run on MariaDB and PostgreSQL in tests/integration."""

import concurrent.futures
import datetime
import uuid

import pytest
from oslo_db import exception as db_exception
from oslo_utils import timeutils

from nova_snap.context import RequestContext
from nova_snap.db.session import Database
from nova_snap.objects import snapshot_request
from nova_snap.objects.snapshot_request import SnapshotRequest, SnapshotTotal
from tests.fixtures.service import make_context

INSTANCE = str(uuid.uuid4())


def record(context: RequestContext) -> str:
    image_id = str(uuid.uuid4())
    SnapshotRequest.record(context, image_id, INSTANCE, "compute-1", "createImage")
    return image_id


class TestSnapshotRequest:
    def test_from_the_record_to_the_end(self, context: RequestContext) -> None:
        image_id = record(context)
        found = SnapshotRequest.get(context, image_id)
        assert found is not None
        assert (found.instance_uuid, found.host, found.action, found.phase) == (
            INSTANCE,
            "compute-1",
            "createImage",
            snapshot_request.ASKED,
        )
        SnapshotRequest.advance(
            context, image_id, INSTANCE, "compute-1", "createImage", snapshot_request.RUNNING
        )
        later = SnapshotRequest.get(context, image_id)
        assert later is not None
        assert later.phase == snapshot_request.RUNNING
        assert later.phase_since > found.phase_since
        assert SnapshotRequest.count_by_phase(context) == [
            ("compute-1", "createImage", "running", 1)
        ]
        SnapshotRequest.forget(context, image_id)
        assert SnapshotRequest.get(context, image_id) is None
        SnapshotRequest.forget(context, image_id)

    def test_an_image_has_one_request(self, context: RequestContext) -> None:
        image_id = record(context)
        with pytest.raises(db_exception.DBDuplicateEntry):
            SnapshotRequest.record(context, image_id, INSTANCE, "compute-1", "createImage")

    def test_one_that_did_not_come_from_our_api(self, context: RequestContext) -> None:
        image_id = str(uuid.uuid4())
        SnapshotRequest.advance(
            context, image_id, INSTANCE, "compute-2", "createBackup", snapshot_request.QUEUED
        )
        found = SnapshotRequest.get(context, image_id)
        assert found is not None
        assert (found.host, found.action, found.phase) == ("compute-2", "createBackup", "queued")

    def test_those_that_nothing_happens_to(self, context: RequestContext) -> None:
        image_id = record(context)
        assert SnapshotRequest.get_unchanged(context, 3600) == []
        (found,) = SnapshotRequest.get_unchanged(context, -1)
        assert found.image_id == image_id
        assert SnapshotRequest.get_all(context, "compute-1") == [found]
        assert SnapshotRequest.get_all(context, "compute-2") == []

    def test_of_many_one_reaps(self, context: RequestContext, database: Database) -> None:
        image_id = record(context)
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            won = list(
                pool.map(
                    lambda _: SnapshotRequest.reap(make_context(database), image_id, 60), range(8)
                )
            )
        assert won.count(True) == 1

    def test_another_one_reaps_when_the_first_has_died(
        self, context: RequestContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image_id = record(context)
        assert SnapshotRequest.reap(context, image_id, 60)
        assert not SnapshotRequest.reap(context, image_id, 60)
        later = timeutils.utcnow() + datetime.timedelta(seconds=61)
        monkeypatch.setattr(timeutils, "utcnow", lambda: later)
        assert SnapshotRequest.reap(context, image_id, 60)

    def test_what_is_forgotten_cannot_be_reaped(self, context: RequestContext) -> None:
        assert not SnapshotRequest.reap(context, str(uuid.uuid4()), 60)


class TestSnapshotTotal:
    def test_the_sums(self, context: RequestContext, database: Database) -> None:
        def add(outcome: str) -> None:
            SnapshotTotal.add(
                make_context(database), "compute-1", "createImage", "stream", outcome, 1.5, 2**40
            )

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(add, ["success"] * 8 + ["SnapshotTimeout"]))
        failed, done = SnapshotTotal.get_all(context)
        assert (failed.outcome, failed.count) == ("SnapshotTimeout", 1)
        assert (done.outcome, done.count, done.seconds, done.bytes) == ("success", 8, 12.0, 2**43)
