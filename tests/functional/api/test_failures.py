# SPDX-License-Identifier: Apache-2.0
"""What the client hears when something behind the API fails, and what is left."""

import logging

import pytest
from oslo_db import exception as db_exception

from nova_snap import exception
from tests.fixtures import logs
from tests.functional.api import service as svc
from tests.functional.api.service import Service

SECRET = "10.1.2.3 says no"

IMAGE_SERVICE = {
    "unreachable": (
        exception.ImageServiceUnavailable(endpoint="http://10.1.2.3", reason=SECRET),
        503,
        "serviceUnavailable",
    ),
    "broken": (exception.ImageServiceError(reason="500 Oops"), 502, "computeFault"),
    "forbids": (exception.ImageForbidden(image_id=None, reason="policy"), 403, "forbidden"),
    "bad-property": (exception.InvalidImageProperty(reason="too odd"), 400, "badRequest"),
    "over-quota": (exception.ImageTooLarge(reason="quota"), 413, "overLimit"),
    "unforeseen": (RuntimeError(SECRET), 500, "computeFault"),
    "mistake": (exception.InvalidTransition(old=None, new=SECRET), 500, "computeFault"),
}


@pytest.mark.parametrize("case", IMAGE_SERVICE)
def test_the_image_service_fails(service: Service, case: str) -> None:
    error, code, name = IMAGE_SERVICE[case]
    service.images.fail["create"] = error
    response = service.create_image(svc.ACTIVE)
    assert response.status_int == code
    assert response.json[name]["code"] == code
    assert SECRET not in response.text
    assert service.instance(svc.ACTIVE).task_state is None
    assert service.casts.sent == []


@pytest.mark.parametrize("case", ["unreachable", "broken", "unforeseen"])
def test_a_failure_of_ours_names_the_request_and_is_logged(
    service: Service, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    service.images.fail["create"] = IMAGE_SERVICE[case][0]
    with caplog.at_level(logging.ERROR, "nova_snap"):
        response = service.create_image(svc.ACTIVE)
    (fault,) = response.json.values()
    assert response.headers["X-OpenStack-Request-Id"] in fault["message"]
    assert str(IMAGE_SERVICE[case][0]) in caplog.text
    assert ("Traceback" in caplog.text) == (case == "unforeseen")


def test_the_host_cannot_be_asked(service: Service) -> None:
    service.casts.fail = exception.MessagingUnavailable(host="compute-1", reason=SECRET)
    response = service.create_image(svc.ACTIVE)
    assert response.status_int == 503
    assert int(response.headers["Retry-After"]) > 0
    assert "compute host" in response.json["serviceUnavailable"]["message"]
    assert "compute-1" not in response.text
    assert service.images.records == {}
    assert service.instance(svc.ACTIVE).task_state is None


def test_an_unforeseen_error_has_the_headers_of_any_answer(service: Service) -> None:
    service.images.fail["create"] = RuntimeError(SECRET)
    response = service.create_image(svc.ACTIVE, version="2.45")
    assert response.status_int == 500
    assert response.headers["OpenStack-API-Version"] == "compute 2.45"
    assert response.headers["Content-Type"].startswith("application/json")
    assert response.headers["X-Compute-Request-Id"].startswith("req-")


def test_a_database_that_fails(service: Service) -> None:
    with service.database.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE block_device_mapping")
    response = service.get("/v2.1/servers/detail")
    assert response.status_int == 500
    assert "block_device_mapping" not in response.text


def test_a_database_that_cannot_be_reached(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> None:
        raise db_exception.DBConnectionError(OSError(SECRET))

    monkeypatch.setattr(service.database, "reader", unreachable)
    response = service.get("/v2.1/servers/detail")
    assert response.status_int == 503
    assert int(response.headers["Retry-After"]) > 0
    said = response.json["serviceUnavailable"]["message"]
    assert "database" in said
    assert response.headers["X-OpenStack-Request-Id"] in said
    assert SECRET not in response.text


def test_the_log_of_an_anonymous_request_names_nobody(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    """A thread serves one client after another; the log's request id must not be the last one's."""
    from oslo_context import context

    first = service.get("/v2.1/servers")
    assert context.get_current().request_id == first.headers["X-OpenStack-Request-Id"]
    second = service.get("/v2.1/servers", token=None)
    assert second.status_int == 401
    current = context.get_current()
    assert current.request_id == second.headers["X-OpenStack-Request-Id"]
    assert current.user_id is None


def test_the_log_has_a_line_for_each_request(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "nova_snap.api"):
        service.get("/v2.1/servers/a%0ab?x=%0d%0aINFO", version="2.3")
    (line,) = logs.ours(caplog)
    assert '"GET /v2.1/servers/a%0Ab?x=%0d%0aINFO" status: 404' in line
    assert "microversion: 2.3" in line
    assert "\n" not in line
