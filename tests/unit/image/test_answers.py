# SPDX-License-Identifier: Apache-2.0
"""Answers of an image service that nobody else bounds."""

import gzip
import io
import tracemalloc
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.image import answers, glance
from tests.unit.image.peer import Handler, Peer, running

IMAGE = str(uuid.uuid4())
MIB = 1 << 20


@pytest.fixture
def peer(conf: cfg.ConfigOpts) -> Iterator[Peer]:
    with running() as made:
        for name, value in {"api_servers": [made.url], "num_retries": 0, "timeout": 60}.items():
            conf.set_override(name, value, "glance")
        yield made


@pytest.fixture
def images(conf: cfg.ConfigOpts, peer: Peer) -> glance.API:
    return glance.API(conf)


def endless(status: int) -> Callable[[Handler], None]:
    def do(handler: Handler) -> None:
        handler.take()
        handler.start(status, Content_Type="application/json")
        handler.pour(b" " * MIB)

    return do


@pytest.fixture(scope="module")
def bomb() -> bytes:
    """A record, and 100 MiB of blanks, in 100 KiB."""
    record = b'{"id": "%s", "status": "queued"}' % IMAGE.encode()
    return gzip.compress(record + b" " * 100 * MIB)


CALLS: dict[str, Callable[[glance.API, RequestContext], Any]] = {
    "GET": lambda images, context: images.get(context, IMAGE),
    "list": lambda images, context: images.get_all(context, {}),
    "POST": lambda images, context: images.create(context, {"name": "a"}),
    "PATCH": lambda images, context: images.set_properties(context, IMAGE, {"a": "b"}),
    "DELETE": lambda images, context: images.delete(context, IMAGE),
    "member": lambda images, context: images.add_member(context, IMAGE, "p"),
}
DATA: dict[str, Callable[[glance.API, RequestContext], Any]] = {
    "upload": lambda images, context: images.update(context, IMAGE, {}, io.BytesIO(b"data"), 4),
    "download": lambda images, context: images.download(context, IMAGE, io.BytesIO(), lambda: None),
}


def most_memory(call: Callable[[], Any], error: type[Exception], words: str) -> int:
    """What it takes at the most, in bytes."""
    tracemalloc.start()
    try:
        with pytest.raises(error, match=words):
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", CALLS)
def test_an_answer_without_an_end(
    peer: Peer, images: glance.API, context: RequestContext, name: str
) -> None:
    peer.do = endless(200)
    call = CALLS[name]

    def once() -> None:
        try:
            call(images, context)
        except exception.ImageServiceUnavailable:
            pytest.fail("it would be asked the same again, and all other images be left alone")

    error = exception.ImageServiceError
    assert most_memory(once, error, "more than") < 4 * answers.LONGEST


@pytest.mark.parametrize("name", CALLS)
def test_a_refusal_without_an_end(
    peer: Peer, images: glance.API, context: RequestContext, name: str
) -> None:
    peer.do = endless(403)
    call = CALLS[name]
    assert most_memory(lambda: call(images, context), exception.ImageForbidden, ".") < 8 * MIB


def test_a_small_answer_that_is_large(
    peer: Peer, images: glance.API, context: RequestContext, bomb: bytes
) -> None:
    def do(handler: Handler) -> None:
        handler.start(200, Content_Encoding="gzip", Content_Length=len(bomb))
        handler.wfile.write(bomb)

    peer.do = do
    error = exception.ImageServiceUnavailable
    assert most_memory(lambda: images.get(context, IMAGE), error, ".") < 8 * MIB
    (request,) = peer.requests
    assert request[1]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("status", [204, 200, 403])
def test_an_upload_whose_answer_has_no_end(
    peer: Peer, images: glance.API, context: RequestContext, status: int
) -> None:
    def do(handler: Handler) -> None:
        if handler.command == "PUT":
            endless(status)(handler)
        else:
            handler.answer(403, {"message": "not yours"})

    peer.do = do

    def send() -> None:
        images.update(context, IMAGE, {}, io.BytesIO(b"data"), 4)

    # After an upload that was taken, the record is asked for.
    assert most_memory(send, exception.ImageForbidden, ".") < 8 * MIB


def test_a_download_that_is_refused_without_an_end(
    peer: Peer, images: glance.API, context: RequestContext
) -> None:
    def do(handler: Handler) -> None:
        if handler.path.endswith("/file"):
            endless(403)(handler)
        else:
            handler.answer(200, {"id": IMAGE, "status": "active", "size": 4})

    peer.do = do

    def fetch() -> None:
        images.download(context, IMAGE, io.BytesIO(), lambda: None)

    assert most_memory(fetch, exception.ImageForbidden, ".") < 8 * MIB


@pytest.mark.parametrize("status", [300, 301, 302, 303, 307, 308])
@pytest.mark.parametrize("name", [*CALLS, *DATA])
def test_nobody_is_followed_to_another_place(
    peer: Peer, images: glance.API, context: RequestContext, name: str, status: int
) -> None:
    """Least of all with a token."""

    def do(handler: Handler) -> None:
        handler.take()
        if name == "download" and not handler.path.endswith("/file"):
            handler.answer(200, {"id": IMAGE, "status": "active", "size": 4})
            return
        handler.start(status, Location=f"{other.url}/v2/elsewhere", Content_Length=0)

    peer.do = do
    with running() as other:
        with pytest.raises(
            exception.ImageServiceError, match=rf"another place \({status}\)"
        ) as error:
            (CALLS | DATA)[name](images, context)
        assert other.requests == []
        assert "127.0.0.1" not in error.value.for_user()
