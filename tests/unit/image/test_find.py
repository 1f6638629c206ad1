# SPDX-License-Identifier: Apache-2.0
"""Lists of images that have no end."""

import urllib.parse
import uuid
from collections.abc import Callable, Iterator

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.image import glance
from tests.unit.image.peer import Handler, Peer, running


@pytest.fixture
def peer(conf: cfg.ConfigOpts) -> Iterator[Peer]:
    with running() as made:
        conf.set_override("api_servers", [made.url], "glance")
        conf.set_override("timeout", 1, "glance")
        yield made


def pages(length: int, pause: float = 0.0, last: int = 0) -> Callable[[Handler], None]:
    """Each has other images, and names one more.

    :param pause: seconds before each.
    :param last: the number of the page that names none; 0 for none.
    """

    def do(handler: Handler) -> None:
        handler.server.closed.wait(pause)
        images = [{"id": str(uuid.uuid4()), "status": "active"} for _ in range(length)]
        page: dict[str, object] = {"images": images}
        if len(handler.server.requests) != last:
            page["next"] = f"/v2/images?marker={images[-1]['id']}"
        handler.answer(200, page)

    return do


def test_every_page_is_read(peer: Peer, conf: cfg.ConfigOpts, context: RequestContext) -> None:
    peer.do = pages(1000, last=10)
    assert len(glance.API(conf).get_all(context, {})) == 10_000


def test_a_service_that_makes_up_images(
    peer: Peer, conf: cfg.ConfigOpts, context: RequestContext
) -> None:
    peer.do = pages(1000)
    with pytest.raises(exception.ImageServiceError, match="more than 10000 images"):
        glance.API(conf).get_all(context, {})
    # It is not asked the same again.
    assert len(peer.requests) == 10


def test_a_service_that_takes_its_time(
    peer: Peer, conf: cfg.ConfigOpts, context: RequestContext
) -> None:
    """No page is late, and all of them together are."""
    peer.do = pages(1, pause=0.8)
    with pytest.raises(exception.ImageServiceError, match="no end after 10 s"):
        glance.API(conf).get_all(context, {})


def test_who_wants_a_few_is_given_them(
    peer: Peer, conf: cfg.ConfigOpts, context: RequestContext
) -> None:
    peer.do = pages(10)
    assert len(glance.API(conf).get_all(context, {}, limit=25)) == 25


def long_records(count: int, length: int) -> Callable[[Handler], None]:
    """A service of so many images, each with a record of so many bytes."""
    every = [
        {"id": str(uuid.uuid4()), "status": "active", "owner_says": "x" * length}
        for _ in range(count)
    ]

    def do(handler: Handler) -> None:
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(handler.path).query))
        assert query["nova_snap_set"] == "a b&c"
        begin = int(query.get("marker", 0))
        end = begin + int(query["limit"])
        page: dict[str, object] = {"images": every[begin:end]}
        if end < count:
            page["next"] = f"/v2/images?{urllib.parse.urlencode({**query, 'marker': end})}"
        handler.answer(200, page)

    return do


def test_records_that_are_long(peer: Peer, conf: cfg.ConfigOpts, context: RequestContext) -> None:
    """As many properties as the image service lets an owner set: fewer are asked for at a time."""
    peer.do = long_records(5, 7 << 20)
    conf.set_override("timeout", 60, "glance")
    found = glance.API(conf).get_all(context, {"nova_snap_set": "a b&c"})
    assert len({image["id"] for image in found}) == 5


def test_a_record_that_is_too_long(
    peer: Peer, conf: cfg.ConfigOpts, context: RequestContext
) -> None:
    """It is that image's, and not the image service's: whoever asks for others gets them."""
    peer.do = long_records(1, 17 << 20)
    conf.set_override("timeout", 60, "glance")
    with pytest.raises(exception.ImageServiceError, match="more than") as caught:
        glance.API(conf).get_all(context, {"nova_snap_set": "a b&c"})
    assert not isinstance(caught.value, exception.ImageServiceUnavailable)
    assert len({path for path, _headers in peer.requests}) == len(peer.requests)
