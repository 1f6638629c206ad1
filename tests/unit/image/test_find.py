# SPDX-License-Identifier: Apache-2.0
"""Lists of images that have no end."""

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
