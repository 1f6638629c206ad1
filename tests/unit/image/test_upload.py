# SPDX-License-Identifier: Apache-2.0
"""The body of an upload."""

import errno
import hashlib
import io
import time
import uuid

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.image import glance
from nova_snap.image.upload import PIECE, READ, Body, SizedBody
from tests.stand_ins.glance import GlanceStandIn

DATA = bytes(range(256)) * (2 * READ // 256) + b"the end"


def sent(body: Body) -> bytes:
    return b"".join(body)


@pytest.mark.parametrize("sized", [True, False])
def test_what_is_sent_is_hashed(sized: bool) -> None:
    body = SizedBody(io.BytesIO(DATA), len(DATA)) if sized else Body(io.BytesIO(DATA))
    body.rewind()
    assert not body.complete
    assert sent(body) == DATA
    assert body.complete
    assert body.sent == len(DATA)
    assert body.hexdigest() == hashlib.sha512(DATA).hexdigest()


@pytest.mark.parametrize("sized", [True, False])
def test_a_rewind_begins_again(sized: bool) -> None:
    body = SizedBody(io.BytesIO(DATA), len(DATA)) if sized else Body(io.BytesIO(DATA))
    assert not body.used
    body.rewind()
    next(iter(body))
    assert (body.sent, body.complete, body.used) == (PIECE, False, True)
    body.rewind()
    assert sent(body) == DATA
    assert body.hexdigest() == hashlib.sha512(DATA).hexdigest()


@pytest.mark.parametrize("sized", [True, False])
def test_what_was_complete_is_not_when_it_begins_again(sized: bool) -> None:
    """A second try that breaks off has not sent everything because the first one had."""
    body = SizedBody(io.BytesIO(DATA), len(DATA)) if sized else Body(io.BytesIO(DATA))
    body.rewind()
    assert sent(body) == DATA
    assert body.complete
    body.rewind()
    assert not body.complete
    next(iter(body))
    assert not body.complete


def test_no_more_than_the_size_is_sent() -> None:
    body = SizedBody(io.BytesIO(b"abcdef"), 4)
    body.rewind()
    assert sent(body) == b"abcd"
    assert body.complete


def test_data_that_is_too_short_is_an_error() -> None:
    body = SizedBody(io.BytesIO(b"abc"), 6)
    body.rewind()
    with pytest.raises(EOFError, match="3 bytes before its size of 6"):
        sent(body)
    assert not body.complete


def test_what_nobody_wants_to_compare_is_not_hashed() -> None:
    body = Body(io.BytesIO(b"abcdef"), None)
    body.rewind()
    assert sent(body) == b"abcdef"
    assert body.complete
    assert body.hexdigest() is None


def test_an_http_client_sees_its_length_only_where_it_is_known() -> None:
    sized, other = SizedBody(io.BytesIO(DATA), len(DATA)), Body(io.BytesIO(DATA))
    assert len(sized) == len(DATA)
    assert not hasattr(other, "__len__")
    for body in (sized, other):
        assert not hasattr(body, "read")
        body.rewind()
        lengths = [len(piece) for piece in body]
        assert lengths == [PIECE] * (2 * READ // PIECE) + [7]


def test_its_end_is_told_once_nobody_asks_for_more() -> None:
    body = Body(io.BytesIO(DATA))
    ends: list[bool] = []
    body.at_end = lambda: ends.append(body.complete)
    body.rewind()
    pieces = iter(body)
    next(pieces)
    assert ends == []
    # As it is when the connection breaks.
    pieces.close()
    assert ends == [False]
    body.rewind()
    sent(body)
    assert ends == [False, True]


class Failing(io.BytesIO):
    """A file of a disk that fails after its first MiB."""

    def read(self, size: int | None = -1, /) -> bytes:
        if self.tell():
            raise OSError(errno.ESTALE, "Stale file handle", "/var/lib/images/a")
        return super().read(size)


@pytest.mark.parametrize("sized", [True, False])
def test_data_that_cannot_be_read_are_no_fault_of_the_image_service(
    conf: cfg.ConfigOpts, context: RequestContext, sized: bool
) -> None:
    with GlanceStandIn() as stand_in:
        conf.set_override("api_servers", [stand_in.url], "glance")
        conf.set_override("retry_interval", 0.0, "glance")
        image_id = str(uuid.uuid4())
        stand_in.images.create({"id": image_id})
        images, size = glance.API(conf), len(DATA) if sized else None
        with pytest.raises(exception.ImageSourceUnreadable, match="Stale file handle") as error:
            images.update(context, image_id, {}, Failing(DATA), size)
        # Who sends may be done with it before the other side has read its first line.
        until = time.monotonic() + 30
        while not stand_in.requests and time.monotonic() < until:
            time.sleep(0.01)
        assert stand_in.requests == [f"PUT images/{image_id}/file"]
    assert "/var" not in error.value.for_user()
