# SPDX-License-Identifier: Apache-2.0
"""Requests on a host that has no thread for them, such as one at its pids.max."""

import contextlib
import io
import threading
import types
from collections.abc import Iterator

import pytest
import requests
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.image import glance, http
from nova_snap.image.connection import Breaker
from nova_snap.image.upload import SizedBody
from tests.unit.image.peer import Handler, Peer, running
from tests.unit.virt.starved import without_threads

IMAGE = "3f1c8c1e-5e0b-4b2a-9a44-0d8f2f9f8c11"
DATA = b"data" * 1000


@pytest.fixture
def peer(conf: cfg.ConfigOpts) -> Iterator[Peer]:
    with running() as made:
        for name, value in {"api_servers": [made.url], "num_retries": 0, "timeout": 60}.items():
            conf.set_override(name, value, "glance")
        yield made


@pytest.mark.parametrize("request_", ["get", "update"])
def test_there_is_none_at_the_beginning(
    peer: Peer,
    conf: cfg.ConfigOpts,
    context: RequestContext,
    monkeypatch: pytest.MonkeyPatch,
    request_: str,
) -> None:
    """Nothing was sent: it is worth another try."""
    images = glance.API(conf)
    arguments = ({}, io.BytesIO(DATA), len(DATA)) if request_ == "update" else ()
    with (
        without_threads(monkeypatch),
        pytest.raises(exception.ImageServiceUnavailable, match="can't start new thread"),
    ):
        getattr(images, request_)(context, IMAGE, *arguments)
    assert peer.requests == []


def test_there_is_none_at_the_end(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The image service has the data: they are not sent in vain."""
    taken, asked = [], threading.Event()

    def do(handler: Handler) -> None:
        asked.set()
        taken.append(handler.take())
        handler.start(204)

    class Source(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            # The other side is a thread as well.
            assert asked.wait(10)
            starved.enter_context(without_threads(monkeypatch))
            return super().read(size)

    peer.do = do
    body = SizedBody(Source(DATA), len(DATA))
    body.rewind()
    own = types.SimpleNamespace(
        endpoint=peer.url, timeout=60, session=requests.Session(), global_request_id=None
    )
    client = types.SimpleNamespace(http_client=own)
    with contextlib.ExitStack() as starved:
        http.put(client, f"/v2/images/{IMAGE}/file", body, Breaker())
    assert body.complete
    assert taken == [DATA]
