# SPDX-License-Identifier: Apache-2.0
"""What becomes of a volume service's answers, and of none. A real one has its own tests."""

import http.server
import json
import pathlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.volume import cinder
from nova_snap.volume.model import Snapshot, SnapshotLimits, Volume

VOLUME = "22222222-2222-2222-2222-222222222222"
IMAGE = "33333333-3333-3333-3333-333333333333"
Answer = tuple[int, Any]


class Service(http.server.ThreadingHTTPServer):
    """Answers what it is told to.

    :ivar answers: by method and the end of the path: one for each request, the last for all that
        follow; a number instead is seconds to wait without an answer.
    :ivar requests: method, path and headers of those that came, and their bodies.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers: dict[str, list[Answer | float]] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []
        self.closed = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def count(self, method: str) -> int:
        return sum(request[0] == method for request in self.requests)


class Handler(http.server.BaseHTTPRequestHandler):
    server: Service

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        self.server.requests.append((self.command, self.path, dict(self.headers), body))
        answers = next(
            found
            for key, found in self.server.answers.items()
            if key.split()[0] == self.command and key.split()[1] in self.path
        )
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        if not isinstance(answer, tuple):
            self.server.closed.wait(answer)
            self.close_connection = True
            return
        status, content = answer
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Subject-Token", "a-token")  # as an identity service's answer has it
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_DELETE = _handle  # noqa: N815 - http.server's names

    def log_message(self, *args: Any) -> None:
        """Quiet."""


@pytest.fixture
def service() -> Iterator[Service]:
    made = Service()
    thread = threading.Thread(target=made.serve_forever)
    thread.start()
    yield made
    made.closed.set()
    made.shutdown()
    made.server_close()
    thread.join()


@pytest.fixture
def volumes(conf: cfg.ConfigOpts, service: Service, monkeypatch: pytest.MonkeyPatch) -> cinder.API:
    monkeypatch.setattr(cinder, "_RETRY_SECONDS", 0.01)
    conf.set_override("auth_strategy", "noauth2", "api")
    conf.set_override("endpoint_template", f"{service.url}/v3/%(project_id)s", "cinder")
    return cinder.API(conf)


def fault(status: int, message: str) -> Answer:
    return status, {"fault": {"code": status, "message": message}}


VOLUME_ANSWER = {
    "volume": {
        "id": VOLUME,
        "size": 3,
        "status": "in-use",
        "description": "of web",
        "attachments": [{"server_id": "s"}, {"server_id": None}],
        "volume_image_metadata": {"hw_qemu_guest_agent": "yes"},
    }
}
SNAPSHOT_ANSWER = {
    "snapshot": {
        "id": "s1",
        "volume_id": VOLUME,
        "status": "creating",
        "metadata": {cinder.IMAGE_KEY: IMAGE},
    }
}


class TestRequests:
    def test_a_volume(self, volumes: cinder.API, service: Service, context: RequestContext) -> None:
        service.answers["GET /volumes/"] = [(200, VOLUME_ANSWER)]
        assert volumes.get_volume(context, VOLUME) == Volume(
            VOLUME, 3, "in-use", "of web", ("s",), {"hw_qemu_guest_agent": "yes"}
        )
        ((_, path, headers, _),) = service.requests
        assert path == f"/v3/{context.project_id}/volumes/{VOLUME}"
        assert headers["X-Auth-Token"] == f"{context.user_id}:{context.project_id}"

    def test_the_limits(
        self, volumes: cinder.API, service: Service, context: RequestContext
    ) -> None:
        limits = {"rate": [], "absolute": {"maxTotalSnapshots": 5, "totalSnapshotsUsed": 3}}
        service.answers["GET /limits"] = [(200, {"limits": limits})]
        assert volumes.get_snapshot_limits(context) == SnapshotLimits(5, 3)

    def test_a_snapshot_is_forced_and_says_what_it_is_for(
        self, volumes: cinder.API, service: Service, context: RequestContext
    ) -> None:
        service.answers["POST /snapshots"] = [(202, SNAPSHOT_ANSWER)]
        made = volumes.create_snapshot_force(context, VOLUME, "a", "b", IMAGE, 5)
        assert made == Snapshot("s1", VOLUME, "creating", IMAGE)
        ((_, _, _, body),) = service.requests
        assert body == {
            "snapshot": {
                "volume_id": VOLUME,
                "force": True,
                "name": "a",
                "description": "b",
                "metadata": {cinder.IMAGE_KEY: IMAGE},
            }
        }

    def test_snapshots_of_other_images_are_not_found(
        self, volumes: cinder.API, service: Service, context: RequestContext
    ) -> None:
        own = SNAPSHOT_ANSWER["snapshot"]
        other = {**own, "id": "s2", "metadata": {}}
        service.answers["GET /snapshots/detail"] = [(200, {"snapshots": [own, other]})]
        found = volumes.snapshots_for_image(context, VOLUME, IMAGE)
        assert [each.id for each in found] == ["s1"]

    def test_a_snapshot_that_is_gone_is_deleted(
        self, volumes: cinder.API, service: Service, context: RequestContext
    ) -> None:
        service.answers["DELETE /snapshots/"] = [fault(503, "busy"), fault(404, "none")]
        volumes.delete_snapshot(context, "s1")
        assert service.count("DELETE") == 2

    def test_with_keystone_it_is_the_users_token_and_catalog(
        self, conf: cfg.ConfigOpts, service: Service, context: RequestContext
    ) -> None:
        conf.set_override("auth_strategy", "keystone", "api")
        context.auth_token = "secret"
        context.service_catalog = [
            {
                "type": "volumev3",
                "name": "cinderv3",
                "endpoints": [{"publicURL": f"{service.url}/v3/own", "region": "R"}],
            }
        ]
        service.answers["GET /volumes/"] = [(200, VOLUME_ANSWER)]
        cinder.API(conf).get_volume(context, VOLUME)
        ((_, path, headers, _),) = service.requests
        assert path == f"/v3/own/volumes/{VOLUME}"
        assert headers["X-Auth-Token"] == "secret"
        conf.set_override("catalog_info", "block-storage::internalURL", "cinder")
        with pytest.raises(exception.EndpointNotFound, match="block-storage"):
            cinder.API(conf).get_volume(context, VOLUME)


TOKEN_ANSWER = {
    "token": {
        "methods": ["password"],
        "issued_at": "2026-01-01T00:00:00.000000Z",
        "expires_at": "2099-01-01T00:00:00.000000Z",
        "user": {"id": "u", "name": "nova_snap", "domain": {"id": "d", "name": "d"}},
    }
}


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (fault(503, "later"), exception.IdentityServiceUnavailable),
        (fault(500, "oops"), exception.IdentityServiceUnavailable),
        (fault(401, "who"), exception.IdentityMisconfigured),
        (fault(404, "where"), exception.IdentityMisconfigured),
        ((200, {"what": 1}), exception.IdentityMisconfigured),
        ((200, b"<html>"), exception.IdentityMisconfigured),
    ],
    ids=str,
)
def test_an_identity_service_that_fails_within_a_request(
    conf: cfg.ConfigOpts,
    service: Service,
    tmp_path: pathlib.Path,
    answer: Answer,
    error: type[exception.NovaSnapError],
) -> None:
    """The volume service refuses the service's token, and there is no other to be had."""
    path = tmp_path / "nova-snap.conf"
    path.write_text(
        f"[DEFAULT]\nstate_path = {tmp_path}\n[api]\nauth_strategy = keystone\n"
        f"[cinder]\nendpoint_template = {service.url}/v3/own\n"
        f"[service_user]\nauth_type = v3password\nauth_url = {service.url}\nuser_id = u\n"
        "password = secret\nproject_id = p\n"
    )
    conf([], project="nova_snap", default_config_files=[str(path)])
    service.answers["POST /auth/tokens"] = [(201, TOKEN_ANSWER), answer]
    service.answers["GET /volumes/"] = [fault(401, "an old token")]
    with pytest.raises(error):
        cinder.API(conf).get_volume(RequestContext(overwrite=False), VOLUME)
    assert [request[0] for request in service.requests] == ["POST", "GET", "POST"]


Call = Callable[[cinder.API, RequestContext], Any]


def create(volumes: cinder.API, context: RequestContext) -> Any:
    return volumes.create_snapshot_force(context, VOLUME, "a", None, IMAGE, 5)


def get(volumes: cinder.API, context: RequestContext) -> Any:
    return volumes.get_volume(context, VOLUME)


@pytest.mark.parametrize(
    ("answer", "call", "error", "words"),
    [
        (fault(413, "too many"), create, exception.VolumeQuotaExceeded, "too many"),
        (fault(400, "in error"), create, exception.InvalidVolume, "in error"),
        (fault(404, "none"), create, exception.VolumeNotFound, VOLUME),
        (fault(404, "none"), get, exception.VolumeNotFound, VOLUME),
        (fault(401, "who"), get, exception.VolumeForbidden, "401"),
        (fault(403, "not you"), get, exception.VolumeForbidden, "not you"),
        (fault(500, "oops"), get, exception.VolumeServiceError, "oops"),
        ((200, {"what": 1}), get, exception.VolumeServiceError, "no answer of a volume service"),
        ((200, b"<html>"), get, exception.VolumeServiceError, "no answer of a volume service"),
        (fault(503, "later"), get, exception.VolumeServiceUnavailable, "later"),
    ],
    ids=lambda value: str(value)[:30] if isinstance(value, tuple) else None,
)
def test_answers_that_are_errors(
    volumes: cinder.API,
    service: Service,
    context: RequestContext,
    answer: Answer,
    call: Call,
    error: type[exception.NovaSnapError],
    words: str,
) -> None:
    service.answers = {"GET /": [answer], "POST /": [answer]}
    with pytest.raises(error, match=words):
        call(volumes, context)


class TestRepeating:
    def test_what_may_be_repeated_is(
        self, volumes: cinder.API, service: Service, context: RequestContext
    ) -> None:
        service.answers["GET /volumes/"] = [0.0, fault(502, "proxy"), (200, VOLUME_ANSWER)]
        assert volumes.get_volume(context, VOLUME).size == 3
        assert service.count("GET") == 3

    def test_so_often_and_not_more(
        self, conf: cfg.ConfigOpts, volumes: cinder.API, service: Service, context: RequestContext
    ) -> None:
        service.answers["GET /volumes/"] = [fault(503, "later")]
        with pytest.raises(exception.VolumeServiceUnavailable):
            volumes.get_volume(context, VOLUME)
        assert service.count("GET") == conf.cinder.http_retries + 1

    @pytest.mark.parametrize("answer", [0.0, fault(503, "later"), fault(502, "proxy")], ids=str)
    def test_a_snapshot_is_asked_for_once(
        self, volumes: cinder.API, service: Service, context: RequestContext, answer: Any
    ) -> None:
        service.answers["POST /snapshots"] = [answer]
        with pytest.raises(exception.VolumeServiceUnavailable):
            create(volumes, context)
        assert service.count("POST") == 1

    def test_every_request_has_a_bound(
        self, conf: cfg.ConfigOpts, volumes: cinder.API, service: Service, context: RequestContext
    ) -> None:
        conf.set_override("http_retries", 0, "cinder")
        conf.set_override("timeout", 1, "cinder")
        service.answers = {"GET /": [60.0], "POST /": [60.0]}
        begun = time.monotonic()
        with pytest.raises(exception.VolumeServiceUnavailable):
            cinder.API(conf).get_volume(context, VOLUME)
        with pytest.raises(exception.VolumeServiceUnavailable):
            volumes.get_snapshot(context, "s1", 0.5)
        assert time.monotonic() - begun < 10

    def test_nobody_listens(
        self, conf: cfg.ConfigOpts, service: Service, context: RequestContext
    ) -> None:
        conf.set_override("endpoint_template", "http://127.0.0.1:1/v3", "cinder")
        conf.set_override("http_retries", 0, "cinder")
        with pytest.raises(exception.VolumeServiceUnavailable, match=r"127\.0\.0\.1:1") as caught:
            cinder.API(conf).get_volume(context, VOLUME)
        assert "127.0.0.1" not in caught.value.for_user()


def test_a_template_that_names_something_else(
    conf: cfg.ConfigOpts, context: RequestContext
) -> None:
    conf.set_override("endpoint_template", "http://cinder/%(project)s", "cinder")
    with pytest.raises(exception.IdentityMisconfigured, match=r"endpoint_template"):
        cinder.API(conf).get_volume(context, VOLUME)
