# SPDX-License-Identifier: Apache-2.0
"""What stands before the routes: request ids, proxies, browsers, load balancers."""

import logging
import re

import oslo_context.context
import pytest
import webob

from nova_snap.api import overload
from tests.functional.api import service as svc
from tests.functional.api.service import Service

REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")
GLOBAL_ID = "req-11111111-2222-3333-4444-555555555555"


@pytest.mark.parametrize(
    ("path", "token"),
    [
        ("/", None),
        ("/v2.1/servers", svc.TOKEN),
        ("/v2.1/servers", None),
        ("/v2.1/nothing", svc.TOKEN),
        ("/healthcheck", None),
    ],
)
def test_every_answer_has_a_request_id(service: Service, path: str, token: str | None) -> None:
    first = service.get(path, token=token).headers
    second = service.get(path, token=token).headers
    assert REQUEST_ID.match(first["X-OpenStack-Request-Id"])
    assert first["X-Compute-Request-Id"] == first["X-OpenStack-Request-Id"]
    assert second["X-OpenStack-Request-Id"] != first["X-OpenStack-Request-Id"]


def test_a_client_gives_an_id_of_its_own_beside_ours(service: Service) -> None:
    response = service.get("/v2.1/servers", headers={"X-OpenStack-Request-Id": GLOBAL_ID})
    assert response.headers["X-OpenStack-Request-Id"] != GLOBAL_ID


FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "compute.example.org"}


class TestLinks:
    def href(self, service: Service, headers: dict[str, str]) -> str:
        server = service.get(f"/v2.1/servers/{svc.ACTIVE}", headers=headers).json["server"]
        href = server["links"][0]["href"]
        assert isinstance(href, str)
        return href.removesuffix(f"/v2.1/servers/{svc.ACTIVE}")

    def test_they_begin_as_the_client_asked(self, service: Service) -> None:
        assert self.href(service, {"Host": "snap.example.org:81"}) == "http://snap.example.org:81"

    def test_nobody_is_believed_to_be_a_proxy(self, service: Service) -> None:
        assert self.href(service, FORWARDED) == "http://localhost"

    def test_a_proxy_that_is_known(self, service: Service) -> None:
        service.conf.set_override("enable_proxy_headers_parsing", True, "oslo_middleware")
        assert self.href(service, FORWARDED) == "https://compute.example.org"

    def test_a_prefix_for_all(self, service: Service) -> None:
        service.conf.set_override(
            "compute_link_prefix", "https://cloud.example.org/compute/", "api"
        )
        assert self.href(service, {}) == "https://cloud.example.org/compute"
        root = service.get("/", token=None).json["versions"][0]["links"][0]["href"]
        assert root == "https://cloud.example.org/compute/v2.1/"
        link = service.get("/v2.1/servers?limit=1").json["servers_links"][0]["href"]
        assert link.startswith("https://cloud.example.org/compute/v2.1/servers?limit=1&marker=")


class TestBrowsers:
    ORIGIN = "https://horizon.example.org"

    @pytest.fixture(autouse=True)
    def allowed(self, service: Service) -> None:
        service.conf.set_override("allowed_origin", [self.ORIGIN], "cors")
        service.rebuild()

    def test_a_page_of_that_origin_may_ask(self, service: Service) -> None:
        response = service.request(
            "OPTIONS",
            f"/v2.1/servers/{svc.ACTIVE}/action",
            token=None,
            headers={
                "Origin": self.ORIGIN,
                "Access-Control-Request-Method": "POST",
                "Access-Control-Request-Headers": "X-Auth-Token, OpenStack-API-Version",
            },
        )
        assert response.status_int in (200, 204)
        assert response.headers["Access-Control-Allow-Origin"] == self.ORIGIN
        assert "X-Auth-Token" in response.headers["Access-Control-Allow-Headers"]

    def test_it_may_read_the_answer(self, service: Service) -> None:
        response = service.get("/v2.1/servers", headers={"Origin": self.ORIGIN})
        assert response.headers["Access-Control-Allow-Origin"] == self.ORIGIN
        assert "OpenStack-API-Version" in response.headers["Access-Control-Expose-Headers"]

    def test_others_may_not(self, service: Service) -> None:
        response = service.get("/v2.1/servers", headers={"Origin": "https://evil.example.org"})
        assert "Access-Control-Allow-Origin" not in response.headers


def test_a_method_is_quoted_in_the_log(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    """A WSGI server of an operator's own may let anything through."""
    with caplog.at_level(logging.INFO, "nova_snap.api.dispatcher"):
        service.request("X\r2026\x1b[2J", "/v2.1/")
    (line,) = [each for each in caplog.messages if "status:" in each]
    assert line.isprintable()
    assert '"X%0D2026%1B%5B2J /v2.1/"' in line


def test_a_health_check_that_is_not_for_everyone(service: Service) -> None:
    service.conf.set_override("allowed_source_ranges", ["192.0.2.0/24"], "healthcheck")
    service.rebuild()
    # The test's requests come from nowhere, which is in no range.
    assert service.get("/healthcheck", token=None).status_int == 404


def test_the_page_is_never_longer_than_the_operator_wants(service: Service) -> None:
    service.conf.set_override("max_limit", 2, "api")
    for query in ("", "?limit=5"):
        response = service.get(f"/v2.1/servers{query}").json
        assert len(response["servers"]) == 2
        assert "marker=" in response["servers_links"][0]["href"]


class TestOverload:
    def answer(
        self, service: Service, path: str, waited: float, closed: bool = False
    ) -> webob.Response:
        environ = {overload.WAITED: waited, overload.CLOSED: closed}
        request = webob.Request.blank(path, environ=environ)
        request.headers["X-Auth-Token"] = svc.TOKEN
        return request.get_response(service.app)

    def test_who_has_waited_for_too_long_is_told_so(self, service: Service) -> None:
        response = self.answer(service, "/v2.1/servers", 46)
        assert response.status_int == 503
        assert "has waited for 46 s" in response.json["serviceUnavailable"]["message"]
        assert response.headers["Retry-After"] == "10"
        assert REQUEST_ID.match(response.headers["X-OpenStack-Request-Id"])

    def test_the_log_does_not_say_that_it_was_who_came_before(
        self, service: Service, caplog: pytest.LogCaptureFixture
    ) -> None:
        before = self.answer(service, "/v2.1/servers", 0)
        response = self.answer(service, "/v2.1/servers", 46)
        context = oslo_context.context.get_current()
        assert "there was no thread for 46 s" in caplog.text
        assert context.request_id == response.headers["X-OpenStack-Request-Id"]
        assert context.request_id != before.headers["X-OpenStack-Request-Id"]
        assert context.user_id is None

    def test_others_are_served(self, service: Service) -> None:
        assert self.answer(service, "/v2.1/servers", 44).status_int == 200
        # A load balancer wants to know whether the process lives.
        assert self.answer(service, "/healthcheck", 46).status_int == 200

    def test_whose_turn_comes_when_the_service_should_have_stopped(self, service: Service) -> None:
        response = self.answer(service, "/v2.1/servers", 1, closed=True)
        assert response.status_int == 503
        assert "being stopped" in response.json["serviceUnavailable"]["message"]

    def test_the_bound_can_be_taken_away(self, service: Service) -> None:
        service.conf.set_override("queue_timeout", 0, "api")
        service.rebuild()
        assert self.answer(service, "/v2.1/servers", 1000).status_int == 200
