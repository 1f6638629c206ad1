# SPDX-License-Identifier: Apache-2.0
"""Images, for clients that speak 2.35 or older: the image service's, in Nova's form.

The image service decides who may do what: there are no rules for this in Nova either.
"""

from collections.abc import Collection, Mapping
from typing import Any, Final, Protocol

import webob
from oslo_config import cfg
from oslo_utils import timeutils, uuidutils

from nova_snap import exception
from nova_snap.api import errors, text
from nova_snap.api.schemas import images as schema
from nova_snap.api.validation import check_query
from nova_snap.api.views.images import ATTRIBUTES, ViewBuilder, glance_statuses
from nova_snap.api.views.links import Links
from nova_snap.api.wsgi import Request, empty_response, json_response
from nova_snap.context import RequestContext

# The parameter: what the image service calls it.
_FILTERS: Final = {
    "name": "name",
    "server": "instance_uuid",
    "type": "image_type",
    "minRam": "min_ram",
    "minDisk": "min_disk",
}
_PROPERTY: Final = "property-"
# What the image service would take for something else than a property to look for.
_NO_PROPERTY: Final = ATTRIBUTES | {"limit", "marker", "sort", "sort_key", "sort_dir", "tag"}


class ImageService(Protocol):
    """The image service, as far as images are shown here."""

    def url(self, context: RequestContext, image_id: str) -> str:
        """Where a user finds the image."""

    def get(self, context: RequestContext, image_id: str) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""

    def get_all(
        self,
        context: RequestContext,
        filters: Mapping[str, str],
        *,
        limit: int | None = None,
        marker: str | None = None,
    ) -> list[Mapping[str, Any]]:
        """:raises nova_snap.exception.InvalidImageProperty: for what cannot be looked for."""

    def delete(self, context: RequestContext, image_id: str) -> None:
        """:raises nova_snap.exception.ImageNotFound:"""

    def set_properties(
        self,
        context: RequestContext,
        image_id: str,
        properties: Mapping[str, str],
        remove: Collection[str] = (),
    ) -> Mapping[str, Any]:
        """:raises nova_snap.exception.ImageNotFound:"""


class Controller:
    """``/images``."""

    def __init__(self, conf: cfg.ConfigOpts, image_api: ImageService) -> None:
        self._conf = conf
        self._image_api = image_api

    def index(self, request: Request) -> webob.Response:
        """``GET /images``."""
        return self._list(request, "images", detailed=False)

    def detail(self, request: Request) -> webob.Response:
        """``GET /images/detail``."""
        return self._list(request, "images/detail", detailed=True)

    def show(self, request: Request, image_id: str) -> webob.Response:
        """``GET /images/{image_id}``."""
        image = get_image(self._image_api, request.context, image_id)
        return json_response({"image": self._views(request).show(image)})

    def delete(self, request: Request, image_id: str) -> webob.Response:
        """``DELETE /images/{image_id}``."""
        self._image_api.delete(request.context, checked_id(image_id))
        return empty_response(204)

    def _list(self, request: Request, path: str, *, detailed: bool) -> webob.Response:
        query = request.query()
        check_query(query, schema.LIST_QUERY)
        limit = self._conf.api.max_limit
        if "limit" in query:
            limit = min(int(query["limit"][-1]), limit)
        images = self._page(request.context, query, limit)
        builder = self._views(request)
        shown = [builder.show(image) if detailed else builder.basic(image) for image in images]
        body: dict[str, Any] = {"images": shown}
        if shown and len(shown) == limit:
            links = Links(self._conf, request)
            body["images_links"] = links.next_page(path, shown[-1]["id"])
        return json_response(body)

    def _page(
        self, context: RequestContext, query: Mapping[str, list[str]], limit: int
    ) -> list[Mapping[str, Any]]:
        filters = _filters(query)
        if filters is None or limit == 0:
            return []
        marker = query["marker"][-1] if "marker" in query else None
        if marker is not None and not uuidutils.is_uuid_like(marker):
            raise exception.MarkerNotFound(marker=text.shorten(marker))
        try:
            return self._image_api.get_all(context, filters, limit=limit, marker=marker)
        except exception.InvalidImageProperty as error:
            raise errors.ValidationError(
                reason=f"The image service cannot list this: {error.reason}"
            ) from error

    def _views(self, request: Request) -> ViewBuilder:
        context = request.context
        # One image's place says where all are: the image service is not asked for each.
        mark = "{image_id}"
        template = self._image_api.url(context, mark)
        return ViewBuilder(
            Links(self._conf, request), lambda image_id: template.replace(mark, image_id)
        )


def get_image(image_api: ImageService, context: RequestContext, image_id: str) -> Mapping[str, Any]:
    """:raises nova_snap.exception.ImageNotFound: also for what is no uuid at all."""
    return image_api.get(context, checked_id(image_id))


def checked_id(image_id: str) -> str:
    """An id that may become a part of a URL.

    :raises nova_snap.exception.ImageNotFound: for what is no uuid.
    """
    if not uuidutils.is_uuid_like(image_id):
        raise exception.ImageNotFound(image_id=text.shorten(image_id))
    return image_id


def _filters(query: Mapping[str, list[str]]) -> dict[str, str] | None:
    """The query in the image service's words; ``None`` if nothing can be found by it."""
    found = {_FILTERS[name]: values[-1] for name, values in query.items() if name in _FILTERS}
    if "server" in query:
        # A link to the server will do.
        found["instance_uuid"] = query["server"][-1].rsplit("/", 1)[-1]
    if "changes-since" in query:
        since = timeutils.normalize_time(timeutils.parse_isotime(query["changes-since"][-1]))
        found["updated_at"] = f"gte:{since.strftime('%Y-%m-%dT%H:%M:%SZ')}"
    if "status" in query:
        statuses = glance_statuses(query["status"][-1])
        if not statuses:
            return None
        found["status"] = f"in:{','.join(statuses)}"
    for name, values in query.items():
        key = name.removeprefix(_PROPERTY)
        if name.startswith(_PROPERTY) and key and key not in _NO_PROPERTY:
            found.setdefault(key, values[-1])
    return found
