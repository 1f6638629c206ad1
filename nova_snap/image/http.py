# SPDX-License-Identifier: Apache-2.0
"""Requests to the image service, over glanceclient's session: it makes them in a dearer way, and
trusts what it is answered."""

import contextlib
import json
import math
import threading
import time
import urllib.parse
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, cast

import glanceclient.exc
import requests
from oslo_log import log

from nova_snap import exception
from nova_snap.image import answers, records
from nova_snap.image.connection import Breaker
from nova_snap.image.upload import Body

LOG = log.getLogger(__name__)

_PAGE: Final = 200
# How many times smaller a page becomes that was too long.
_SHRINK: Final = 8
# Of a list as a whole: records, and times the timeout of one step.
_MOST: Final = 10_000
_LIST: Final = 10
WHOLE: Final = 2
"""How many times the timeout of one step a whole request may take."""


def ask(client: Any, method: str, path: str, **how: Any) -> dict[str, Any]:
    """One small request whose answer is an object.

    :param how: as for requests.
    :raises glanceclient.exc.HTTPException: if the image service refuses.
    :raises glanceclient.exc.CommunicationError: if the connection breaks, and for an answer that
        is none.
    """
    try:
        found = _request(client, method, path, **how).json()
    except (*answers.BROKEN, ValueError, RecursionError) as error:
        raise glanceclient.exc.CommunicationError(message=str(error)) from error
    if not isinstance(found, dict):
        raise _unusable(method, path)
    return found


def _request(client: Any, method: str, path: str, **how: Any) -> requests.Response:
    """glanceclient's own takes whatever comes for an answer, and breaks on what it does not know.

    :returns: with its body.
    """
    own = client.http_client
    LOG.debug("%s %s%s", method, own.endpoint, path)
    headers = {**how.pop("headers", {}), **answers.IDENTITY, **request_id(own)}
    breaker = Breaker()
    with _limit(own, breaker) as start, breakable(own.session, breaker) as session:
        start()
        response = session.request(
            method,
            f"{own.endpoint}{path}",
            headers=headers,
            timeout=own.timeout,
            stream=True,
            allow_redirects=False,
            **how,
        )
        if answers.refused(response):
            raise answers.refusal(response)
        answers.read(response)
    return response


def request_id(own: Any) -> dict[str, str]:
    """:param own: glanceclient's HTTP client. :returns: the header by which logs are compared."""
    return {"X-OpenStack-Request-ID": own.global_request_id} if own.global_request_id else {}


def _unusable(method: str, path: str, wrong: str = "") -> glanceclient.exc.CommunicationError:
    message = f"its answer to {method} {path} is none of the Image API"
    return glanceclient.exc.CommunicationError(message=f"{message}: {wrong}" if wrong else message)


def _ask_record(client: Any, method: str, path: str, image_id: str, **how: Any) -> dict[str, Any]:
    """:raises glanceclient.exc.CommunicationError: also if the answer is about another image."""
    found = ask(client, method, path, **how)
    if (wrong := records.problem(found)) is not None:
        raise _unusable(method, path, wrong)
    if found["id"] != image_id:
        raise glanceclient.exc.CommunicationError(
            message=f"its record of image {image_id} is that of another image, {found['id']}"
        )
    return found


def create(client: Any, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Make a record in one request: ``client.images.create`` asks for the schema as well.

    :param values: the record, with its ``id``.
    """
    return _ask_record(client, "POST", "/v2/images", values["id"], json=dict(values))


def record(client: Any, image_id: str) -> Mapping[str, Any]:
    """The record in one request: ``client.images.get`` asks for the image's schema as well."""
    return _ask_record(client, "GET", f"/v2/images/{image_id}", image_id)


def find(client: Any, query: Mapping[str, str], limit: int | None) -> list[Mapping[str, Any]]:
    """The records that a query finds, page by page; ``client.images.list`` would follow a service
    that sends it in a circle for ever.

    :param limit: how many at the most.
    :raises nova_snap.exception.ImageServiceError: if there is no end to it: there are too many, or
        it takes too long.
    :raises nova_snap.image.answers.TooLong: if a page of one record is.
    """
    seconds = _LIST * client.http_client.timeout
    deadline = time.monotonic() + seconds
    size = min(limit or _PAGE, _PAGE)
    path = "/v2/images?" + urllib.parse.urlencode({**query, "limit": size})
    found: dict[str, Mapping[str, Any]] = {}
    while True:
        try:
            page = ask(client, "GET", path)
        except answers.TooLong:
            if size == 1:
                raise
            # Of all pages from here on: the next one is named with the size of this one.
            size = math.ceil(size / _SHRINK)
            path = _resized(path, size)
            continue
        images: Any = page.get("images")
        if not _is_page(images, found):
            raise _unusable("GET", path)
        found.update((image["id"], image) for image in images)
        following = page.get("next")
        if not following or not images or (limit is not None and len(found) >= limit):
            return list(found.values())[:limit]
        if not str(following).startswith("/v2/images?"):
            raise _unusable("GET", path)
        if len(found) >= _MOST:
            raise exception.ImageServiceError(reason=f"it lists more than {_MOST} images")
        if time.monotonic() >= deadline:
            reason = f"its list of images has no end after {seconds:g} s, at {len(found)} images"
            raise exception.ImageServiceError(reason=reason)
        path = following


def _resized(path: str, size: int) -> str:
    place, _, query = path.partition("?")
    kept = [pair for pair in urllib.parse.parse_qsl(query, True) if pair[0] != "limit"]
    return f"{place}?{urllib.parse.urlencode([*kept, ('limit', size)])}"


def _is_page(images: Any, known: Collection[str]) -> bool:
    """Whether these are images, and none of those that the pages before had."""
    return isinstance(images, list) and all(
        records.problem(image) is None and image["id"] not in known for image in images
    )


def set_properties(
    client: Any, image_id: str, values: Mapping[str, Any], remove: Collection[str] = ()
) -> Mapping[str, Any]:
    """Set properties in one request; ``client.images.update`` makes five.

    In this media type ``add`` also replaces (Image API 2.1, "Update image").

    :param remove: those of these that the image has.
    """
    changes: list[dict[str, Any]] = [
        {"op": "add", "path": _pointer(key), "value": value} for key, value in values.items()
    ]
    if remove:
        known = record(client, image_id)
        changes += [
            {"op": "remove", "path": _pointer(key)}
            for key in remove
            if key in known and key not in values
        ]
    return patch(client, image_id, changes)


def _pointer(key: str) -> str:
    return "/" + key.replace("~", "~0").replace("/", "~1")


def patch(client: Any, image_id: str, changes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Change the record, and return it.

    :param changes: operations as RFC 6902 has them.
    """
    return _ask_record(
        client,
        "PATCH",
        f"/v2/images/{image_id}",
        image_id,
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
        data=json.dumps(changes),
    )


def delete(client: Any, image_id: str) -> None:
    """Delete the image."""
    _request(client, "DELETE", f"/v2/images/{image_id}")


def add_member(client: Any, image_id: str, project_id: str) -> None:
    """Let another project use a shared image."""
    _request(client, "POST", f"/v2/images/{image_id}/members", json={"member": project_id})


def add_location(client: Any, image_id: str, url: str) -> None:
    """Make data that are in a store the image's (Image API 2.17)."""
    _request(client, "POST", f"/v2/images/{image_id}/locations", json={"url": url})


def put(client: Any, path: str, body: Body, breaker: Breaker) -> None:
    """Send data, with its exact length where that is known.

    ``client.images.upload`` sends the length in a header of its own and the data chunked, in
    pieces of 64 KiB: the image service's server takes that more slowly, and a proxy on the way
    does not know when it has everything.
    """
    own = client.http_client
    headers = {"Content-Type": "application/octet-stream", **answers.IDENTITY, **request_id(own)}
    # What the client sends is bytes, or anything that is like them in memory.
    pieces = cast("Iterable[bytes]", body)
    limited = Breaker(breaker)
    try:
        with _limit(own, limited) as start, breakable(own.session, limited) as session:
            body.at_end = start
            response = session.put(
                f"{own.endpoint}{path}",
                data=pieces,
                headers=headers,
                timeout=own.timeout,
                stream=True,
                allow_redirects=False,
            )
            with contextlib.closing(response):
                # What it says of data that it took is of no use.
                if answers.refused(response):
                    raise answers.refusal(response)
    except requests.RequestException as error:
        raise glanceclient.exc.CommunicationError(message=str(error)) from error


@contextlib.contextmanager
def _limit(own: Any, breaker: Breaker) -> Iterator[Callable[[], None]]:
    """A bound for a whole answer: the session's own timeout begins again with each byte.

    :param own: glanceclient's HTTP client.
    :returns: what starts its time.
    :raises glanceclient.exc.CommunicationError: if there is no thread for it; nothing was sent.
    """
    begun, ended = threading.Event(), threading.Event()

    def run() -> None:
        begun.wait()
        if not ended.wait(WHOLE * own.timeout):
            breaker.break_off()

    # Not when its time begins: for want of a thread then, data that were taken would be lost.
    thread = threading.Thread(target=run, name="image-limit", daemon=True)
    try:
        thread.start()
    except RuntimeError as error:
        # Too many threads, just now.
        raise glanceclient.exc.CommunicationError(message=str(error)) from error
    try:
        yield begun.set
    finally:
        ended.set()
        begun.set()


def breakable(like: requests.Session, breaker: Breaker) -> requests.Session:
    """A session with the settings of another, whose connections ``breaker`` breaks."""
    made = requests.Session()
    made.headers.update(like.headers)
    made.auth = like.auth
    made.verify, made.cert = like.verify, like.cert
    for scheme in ("http://", "https://"):
        made.mount(scheme, breaker.adapter())
    return made
