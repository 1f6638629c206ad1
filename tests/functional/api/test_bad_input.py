# SPDX-License-Identifier: Apache-2.0
"""Requests that nobody should send: the code, a message that helps, and nothing changed."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import sqlalchemy as sa
import webob
from sqlalchemy import event

from tests.functional.api import service as svc
from tests.functional.api.service import Service

ACTION = f"/v2.1/servers/{svc.ACTIVE}/action"
NAME_HINT = "printable characters of Unicode's Basic Multilingual Plane"
VALUE_OF_255 = "v" * 255


def create_image(**entity: Any) -> bytes:
    return json.dumps({"createImage": entity}).encode()


def message(response: webob.Response) -> str:
    """The message of a fault in Nova's shape."""
    ((name, fault),) = response.json.items()
    assert name in ("badRequest", "badMediaType", "overLimit", "forbidden", "itemNotFound")
    assert fault["code"] == response.status_int
    assert set(fault) == {"code", "message"}
    text = fault["message"]
    assert isinstance(text, str)
    return text


def assert_nothing_changed(service: Service) -> None:
    assert service.images.records == {}
    assert service.casts.sent == []
    for uuid in (svc.ACTIVE, svc.FOREIGN):
        assert service.instance(uuid).task_state is None


BODIES = {
    "no-body": (b"", 400, "there is none"),
    "malformed-json": (b'{"createImage": {"name": "x"', 400, "not JSON"),
    "not-utf-8": (b'{"createImage": {"name": "\xff"}}', 400, "not UTF-8"),
    "lone-surrogate": (
        b'{"createImage": {"name": "x", "metadata": {"a": "\\ud800"}}}',
        400,
        "UTF-8",
    ),
    "nested-too-deep": (b"[" * 60000 + b"]" * 40000, 400, "not JSON"),
    "number-too-long": (b'{"createImage": ' + b"1" * 10000 + b"}", 400, "not JSON"),
    "list": (b'["createImage"]', 400, "not a JSON object"),
    "string": (b'"createImage"', 400, "not a JSON object"),
    "null": (b"null", 400, "not a JSON object"),
    "no-action": (b"{}", 400, "0 actions instead of one"),
    "two-actions": (b'{"createImage": {"name": "x"}, "os-stop": null}', 400, "2 actions"),
    "unknown-action": (b'{"explode": null}', 400, "There is no such action: explode"),
    "private-method": (b'{"_get_server": null}', 400, "There is no such action: _get_server"),
    "action-is-null": (b'{"createImage": null}', 400, "None is not of type 'object'"),
    "action-is-a-string": (b'{"createImage": "x"}', 400, "'x' is not of type 'object'"),
    "no-name": (create_image(), 400, "'name' is a required property"),
    "name-is-null": (create_image(name=None), 400, "None is not of type 'string'"),
    "name-is-a-number": (create_image(name=7), 400, "7 is not of type 'string'"),
    "name-is-empty": (create_image(name=""), 400, "(at least 1 characters)"),
    "name-of-256": (create_image(name="n" * 256), 400, "too long (at most 255 characters)"),
    "name-of-4-bytes": (create_image(name="snap \N{GRINNING FACE}"), 400, NAME_HINT),
    "name-with-nul": (create_image(name="a\0b"), 400, NAME_HINT),
    "name-with-newline": (create_image(name="name\n"), 400, NAME_HINT),
    "name-begins-with-space": (create_image(name=" name"), 400, NAME_HINT),
    "name-ends-with-space": (create_image(name="name "), 400, NAME_HINT),
    "name-is-wide-space": (create_image(name="\u3000"), 400, NAME_HINT),
    "name-with-line-separator": (create_image(name="a\u2028b"), 400, NAME_HINT),
    "name-with-direction-mark": (create_image(name="a\u202eb"), 400, NAME_HINT),
    "unknown-property": (create_image(name="x", colour="red"), 400, "'colour' was unexpected"),
    "metadata-is-null": (create_image(name="x", metadata=None), 400, "not of type 'object'"),
    "metadata-is-a-list": (create_image(name="x", metadata=[]), 400, "not of type 'object'"),
    "metadata-key-with-slash": (create_image(name="x", metadata={"a/b": "v"}), 400, "'a/b'"),
    "metadata-key-with-newline": (create_image(name="x", metadata={"a\n": "v"}), 400, "'a\\n'"),
    "metadata-key-empty": (create_image(name="x", metadata={"": "v"}), 400, "''"),
    "metadata-key-of-256": (create_image(name="x", metadata={"k" * 256: "v"}), 400, "kkk..."),
    "metadata-value-null": (create_image(name="x", metadata={"a": None}), 400, "attribute a."),
    "metadata-value-number": (create_image(name="x", metadata={"a": 1}), 400, "attribute a."),
    "metadata-value-of-256": (
        create_image(name="x", metadata={"a": "v" * 256}),
        400,
        "too long (at most 255 characters)",
    ),
    "too-large": (create_image(name="x" * 114688), 413, "at most 114688 bytes are accepted"),
}


@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body_is_refused(service: Service, case: str) -> None:
    body, code, hint = BODIES[case]
    response = service.request("POST", ACTION, body)
    assert response.status_int == code
    assert hint in message(response)
    assert_nothing_changed(service)


@pytest.mark.parametrize("case", BODIES)
def test_a_bad_body_is_not_sent_back_whole(service: Service, case: str) -> None:
    response = service.request("POST", ACTION, BODIES[case][0])
    assert len(message(response)) < 700


GOOD = {
    "name-of-255": create_image(name="n" * 255),
    "name-with-spaces-inside": create_image(name="a name of\u00a0several words"),
    "name-in-greek": create_image(name="στιγμιότυπο"),
    "name-of-the-last-character": create_image(name="\ufffd"),
    "no-metadata": create_image(name="x", metadata={}),
    "every-character-of-a-key": create_image(name="x", metadata={"aZ09-_:. ": "v"}),
    "key-and-value-of-255": create_image(name="x", metadata={"k" * 255: VALUE_OF_255}),
    "empty-value": create_image(name="x", metadata={"a": ""}),
}


@pytest.mark.parametrize("case", GOOD)
def test_what_is_just_allowed_is_accepted(service: Service, case: str) -> None:
    entity = json.loads(GOOD[case])["createImage"]
    response = service.request("POST", ACTION, GOOD[case], version="2.45")
    assert response.status_int == 202
    record = service.images.records[response.json["image_id"]]
    assert record["name"] == entity["name"]
    assert entity.get("metadata", {}).items() <= record.items()


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        ("application/json", 202),
        ("application/json; charset=utf-8", 202),
        ("application/vnd.openstack.compute+json", 202),
        ("text/plain", 202),
        ("application/x-www-form-urlencoded", 415),
        ("application/xml", 415),
    ],
)
def test_the_type_of_the_body(service: Service, content_type: str, code: int) -> None:
    response = service.request(
        "POST", ACTION, create_image(name="x"), headers={"Content-Type": content_type}
    )
    assert response.status_int == code
    if code == 415:
        assert content_type in message(response)
        assert_nothing_changed(service)


class Endless(io.RawIOBase):
    """A client that does not stop sending."""

    sent = 0

    def read(self, size: int = -1) -> bytes:
        assert size > 0, "this would never return"
        self.sent += size
        return b" " * size


def post_stream(service: Service, stream: io.RawIOBase | io.BytesIO) -> webob.Response:
    """A body without a Content-Length, as chunked encoding gives it."""
    request = webob.Request.blank(ACTION, method="POST", headers={"X-Auth-Token": svc.TOKEN})
    request.environ["wsgi.input"] = stream
    request.environ["wsgi.input_terminated"] = True
    request.environ.pop("CONTENT_LENGTH", None)
    return request.get_response(service.app)


def test_a_body_of_unknown_length_is_not_read_to_an_end_that_may_never_come(
    service: Service,
) -> None:
    stream = Endless()
    response = post_stream(service, stream)
    assert response.status_int == 413
    assert "114688" in message(response)
    assert stream.sent < 200000
    assert_nothing_changed(service)


def test_a_client_that_hangs_up(service: Service) -> None:
    request = webob.Request.blank(ACTION, method="POST", headers={"X-Auth-Token": svc.TOKEN})
    request.environ["wsgi.input"] = io.BytesIO(b'{"createImage"')
    request.environ["CONTENT_LENGTH"] = "1000"
    response = request.get_response(service.app)
    assert response.status_int == 400
    assert "ends before its Content-Length" in message(response)
    assert_nothing_changed(service)


def test_a_body_of_unknown_length_may_be_small(service: Service) -> None:
    assert post_stream(service, io.BytesIO(create_image(name="x"))).status_int == 202


@pytest.mark.parametrize(
    "server_id", [svc.UNKNOWN, svc.FOREIGN, svc.DELETED, "web", "1", "%00", "x" * 2000]
)
def test_a_server_that_one_may_not_know_of(service: Service, server_id: str) -> None:
    response = service.create_image(server_id)
    assert response.status_int == 404
    assert len(message(response)) < 300
    assert_nothing_changed(service)


def test_a_path_that_is_not_utf_8(service: Service) -> None:
    assert service.get("/v2.1/servers/%ff%fe").status_int == 404


@pytest.fixture
def bound() -> Iterator[list[Any]]:
    """What is bound to statements: PostgreSQL's driver takes no NUL, not even to look for one."""
    seen: list[Any] = []

    def look(_connection: Any, _cursor: Any, _sql: str, values: Any, *_rest: Any) -> None:
        seen.append(values)

    event.listen(sa.Engine, "before_cursor_execute", look)
    yield seen
    event.remove(sa.Engine, "before_cursor_execute", look)


@pytest.mark.parametrize(
    "path",
    [
        f"/v2.1/servers/{svc.ACTIVE}/os-instance-actions/%00",
        "/v2.1/os-hypervisors/%00/search",
        "/v2.1/os-quota-sets/%00/detail",
        "/v2.1/flavors/a%00b",
        f"/v2.1/servers/{svc.ACTIVE}/metadata/%00",
    ],
)
def test_a_path_with_nul(service: Service, bound: list[Any], path: str) -> None:
    assert service.get(path, token=svc.ADMIN_TOKEN).status_int == 404
    assert "\\x00" not in repr(bound)


def test_a_binary_with_nul(service: Service, bound: list[Any]) -> None:
    body = json.dumps({"host": svc.HOST, "binary": "\0"}).encode()
    response = service.request(
        "PUT", "/v2.1/os-services/enable", body, token=svc.ADMIN_TOKEN, version="2.52"
    )
    assert response.status_int == 400
    assert "attribute binary" in message(response)
    assert "\\x00" not in repr(bound)


@pytest.mark.parametrize("version", ["2.97", "2.0", "1.1", "3.0"])
def test_a_version_that_is_not_spoken(service: Service, version: str) -> None:
    response = service.create_image(svc.ACTIVE, version=version)
    assert response.status_int == 406
    assert response.json["computeFault"]["code"] == 406
    assert f"Version {version} is not supported" in response.json["computeFault"]["message"]
    assert_nothing_changed(service)


@pytest.mark.parametrize(
    "version", ["two", "2", "2.1.1", "2.-1", "2." + "9" * 5000, "\u0662.\u0661".encode()]
)
def test_a_version_that_is_none(service: Service, version: str | bytes) -> None:
    given = version.decode("latin-1") if isinstance(version, bytes) else version
    response = service.create_image(svc.ACTIVE, version=given)
    assert response.status_int == 400
    assert "MajorNum.MinorNum" in message(response)
    assert len(message(response)) < 400
    assert_nothing_changed(service)


@pytest.mark.parametrize(
    "token",
    ["a\tb:p", "al ice:p", "alice:p\x7f", ":p", "\xe9:p", "u" * 256, "u:" + "p" * 256],
)
def test_a_token_that_cannot_be_one(service: Service, token: str) -> None:
    response = service.create_image(svc.ACTIVE, token=token)
    assert response.status_int == 401
    assert "1 to 255 printable ASCII characters" in response.json["unauthorized"]["message"]
    assert_nothing_changed(service)


class TestMetadataQuota:
    """``[quota] metadata_items``, which microversions below 2.39 are held to."""

    @staticmethod
    def items(count: int) -> dict[str, str]:
        return {f"key{number}": "value" for number in range(count)}

    def test_as_many_as_are_allowed(self, service: Service) -> None:
        response = service.create_image(svc.ACTIVE, metadata=self.items(128))
        assert response.status_int == 202

    def test_one_too_many(self, service: Service) -> None:
        response = service.create_image(svc.ACTIVE, metadata=self.items(129), version="2.38")
        assert response.status_int == 403
        assert message(response).startswith("Image metadata limit exceeded")
        assert_nothing_changed(service)

    def test_no_limit_since_2_39(self, service: Service) -> None:
        response = service.create_image(svc.ACTIVE, metadata=self.items(129), version="2.39")
        assert response.status_int == 202

    def test_no_limit_where_the_operator_wants_none(self, service: Service) -> None:
        service.conf.set_override("metadata_items", -1, "quota")
        response = service.create_image(svc.ACTIVE, metadata=self.items(500))
        assert response.status_int == 202

    def test_none_at_all(self, service: Service) -> None:
        service.conf.set_override("metadata_items", 0, "quota")
        assert service.create_image(svc.ACTIVE, metadata=self.items(1)).status_int == 403
        assert service.create_image(svc.ACTIVE, metadata={}).status_int == 202
