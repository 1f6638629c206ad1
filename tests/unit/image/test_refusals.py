# SPDX-License-Identifier: Apache-2.0
"""What is made of the image service's refusals, whatever their bodies are."""

import glanceclient.exc
import pytest
import requests

from nova_snap.image import answers


def refused(status: int, content_type: str | None, body: bytes) -> requests.Response:
    response = requests.Response()
    response.status_code = status
    response._content = body
    if content_type is not None:
        response.headers["content-type"] = content_type
    return response


@pytest.mark.parametrize(
    ("content_type", "body", "said"),
    [
        ("application/json", b'{"message": "no room"}', "no room"),
        ("text/html", b"<h1>Forbidden</h1>\n<p>no room</p>", "Forbidden: no room"),
        ("text/plain", b"no room", "no room"),
    ],
)
def test_its_words_are_found(content_type: str, body: bytes, said: str) -> None:
    error = answers.refusal(refused(403, content_type, body))
    assert isinstance(error, glanceclient.exc.HTTPForbidden)
    assert said in str(error)


@pytest.mark.parametrize("content_type", ["application/json", "text/html", "text/plain", None])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"7", b'{"message": null}', b"\xff\xfe", b"[" * 50_000 + b"]" * 50_000],
    ids=["none", "torn", "list", "number", "null", "bytes", "deep"],
)
def test_a_body_that_cannot_be_read(content_type: str | None, body: bytes) -> None:
    error = answers.refusal(refused(415, content_type, body))
    assert error.code == 415
    assert isinstance(error, glanceclient.exc.HTTPException)


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/json", b'{"message": "%s"}' % (b"no " * 1000)),
        ("application/json", b'{"error": {"message": "%s"}}' % (b"no " * 1000)),
        ("text/html", b"<p>%s</p>" % (b"no " * 1000)),
        ("text/plain", b"no " * 1000),
    ],
)
def test_its_words_are_cut(content_type: str, body: bytes) -> None:
    said = str(answers.refusal(refused(403, content_type, body)))
    assert "no no no" in said
    assert len(said) < 1100
