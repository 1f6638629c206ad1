# SPDX-License-Identifier: Apache-2.0
"""Numbers for Prometheus."""

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nova_snap.objects.snapshot_request import SnapshotRequest, SnapshotTotal
from tests.functional.api import service as svc
from tests.functional.api.service import Service


def numbers(text: str) -> dict[str, float]:
    """Samples as a scraper reads them, by name and labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name} {labels}"] = sample.value
    return found


@pytest.fixture
def scraped(service: Service) -> Service:
    service.conf.set_override("metrics_enabled", True, "api")
    service.rebuild()
    return service


def test_there_are_none_unless_they_are_asked_for(service: Service) -> None:
    response = service.get("/metrics", token=None)
    assert (response.status_int, "itemNotFound" in response.json) == (404, True)


def test_what_is_waiting_running_and_over(scraped: Service) -> None:
    context = scraped.context()
    assert scraped.create_image(svc.ACTIVE).status_int == 202
    SnapshotRequest.advance(context, "i", "u", "compute-2", "createBackup", "running")
    for seconds in (1.5, 2.5):
        SnapshotTotal.add(context, "compute-2", "createImage", "stream", "success", seconds, 2**40)
    SnapshotTotal.add(context, "compute-2", "createImage", "mirror", "ScratchFull", 9.0, 0)
    response = scraped.get("/metrics", token=None)
    assert response.content_type == "text/plain"
    ended = "action=createImage,host=compute-2,method=stream,outcome=success"
    failed = "action=createImage,host=compute-2,method=mirror,outcome=ScratchFull"
    found = numbers(response.text)
    host = svc.HOST
    assert found == {
        f"nova_snap_snapshots action=createImage,host={host},phase=asked": 1,
        "nova_snap_snapshots action=createBackup,host=compute-2,phase=running": 1,
        f"nova_snap_snapshots_ended_total {ended}": 2,
        f"nova_snap_snapshot_seconds_total {ended}": 4.0,
        f"nova_snap_snapshot_uploaded_bytes_total {ended}": 2**41,
        f"nova_snap_snapshots_ended_total {failed}": 1,
        f"nova_snap_snapshot_seconds_total {failed}": 9.0,
        f"nova_snap_snapshot_uploaded_bytes_total {failed}": 0,
        f"nova_snap_compute_service_up host={host}": 1,
    }
    assert svc.ACTIVE not in response.text


def test_it_can_only_be_read(scraped: Service) -> None:
    response = scraped.request("POST", "/metrics", token=None)
    assert (response.status_int, response.headers["Allow"]) == (405, "GET, HEAD")


def test_a_database_that_cannot_be_asked(scraped: Service) -> None:
    with scraped.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE snapshot_totals")
    response = scraped.get("/metrics", token=None)
    assert (response.status_int, response.text) == (503, "")
