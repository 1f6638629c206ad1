# SPDX-License-Identifier: Apache-2.0
"""Requests that glanceclient makes in a dearer way, over its own session."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import glanceclient.exc
import requests

from nova_snap.image.connection import Breaker
from nova_snap.image.upload import Body


def record(client: Any, image_id: str) -> Mapping[str, Any]:
    """The record in one request: ``client.images.get`` asks for the image's schema as well."""
    _, record = client.http_client.get(f"/v2/images/{image_id}")
    return dict(record)


def set_properties(client: Any, image_id: str, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Set properties in one request; ``client.images.update`` makes five.

    In this media type ``add`` also replaces (Image API 2.1, "Update image").
    """
    changes = [
        {"op": "add", "path": "/" + key.replace("~", "~0").replace("/", "~1"), "value": value}
        for key, value in values.items()
    ]
    return patch(client, image_id, changes)


def patch(client: Any, image_id: str, changes: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Change the record, and return it.

    :param changes: operations as RFC 6902 has them.
    """
    _, record = client.http_client.patch(
        f"/v2/images/{image_id}",
        headers={"Content-Type": "application/openstack-images-v2.1-json-patch"},
        data=json.dumps(changes),
    )
    return dict(record)


def put(client: Any, path: str, body: Body, breaker: Breaker) -> None:
    """Send data, with its exact length where that is known.

    ``client.images.upload`` sends the length in a header of its own and the data chunked, in
    pieces of 64 KiB: the image service's server takes that more slowly, and a proxy on the way
    does not know when it has everything.
    """
    own = client.http_client
    headers = {"Content-Type": "application/octet-stream"}
    if own.global_request_id:
        headers["X-OpenStack-Request-ID"] = own.global_request_id
    # What the client sends is bytes, or anything that is like them in memory.
    pieces = cast("Iterable[bytes]", body)
    try:
        with _breakable(own.session, breaker) as session:
            response = session.put(
                f"{own.endpoint}{path}", data=pieces, headers=headers, timeout=own.timeout
            )
    except requests.RequestException as error:
        raise glanceclient.exc.CommunicationError(message=str(error)) from error
    if not response.ok:
        raise glanceclient.exc.from_response(response, response.content)


def _breakable(like: requests.Session, breaker: Breaker) -> requests.Session:
    """A session with the settings of another, whose connections ``breaker`` breaks."""
    made = requests.Session()
    made.headers.update(like.headers)
    made.auth = like.auth
    made.verify, made.cert = like.verify, like.cert
    for scheme in ("http://", "https://"):
        made.mount(scheme, breaker.adapter())
    return made
