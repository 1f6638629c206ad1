# SPDX-License-Identifier: Apache-2.0
"""The properties of images, for clients that speak 2.38 or older."""

from collections.abc import Collection, Mapping
from typing import Any

import webob
from oslo_config import cfg

from nova_snap import exception
from nova_snap.api import errors, text
from nova_snap.api.images import ImageService, get_image
from nova_snap.api.schemas import server_update as schema
from nova_snap.api.validation import check_body
from nova_snap.api.views.images import ATTRIBUTES, properties_of
from nova_snap.api.wsgi import Request, empty_response, json_response
from nova_snap.context import RequestContext


class Controller:
    """``/images/{image_id}/metadata`` and the items in it."""

    def __init__(self, conf: cfg.ConfigOpts, image_api: ImageService) -> None:
        self._conf = conf
        self._image_api = image_api

    def index(self, request: Request, image_id: str) -> webob.Response:
        """``GET .../metadata``."""
        return json_response({"metadata": self._get(request.context, image_id)})

    def create(self, request: Request, image_id: str, body: Mapping[str, Any]) -> webob.Response:
        """``POST .../metadata``: adds to what there is."""
        check_body(body, schema.METADATA_ALL)
        old = self._get(request.context, image_id)
        return self._set(request.context, image_id, old, body["metadata"])

    def update_all(
        self, request: Request, image_id: str, body: Mapping[str, Any]
    ) -> webob.Response:
        """``PUT .../metadata``: replaces what there is."""
        check_body(body, schema.METADATA_ALL)
        new = body["metadata"]
        old = self._get(request.context, image_id)
        gone = [key for key in old if key not in new]
        return self._set(request.context, image_id, old, new, remove=gone)

    def show(self, request: Request, image_id: str, key: str) -> webob.Response:
        """``GET .../metadata/{key}``."""
        found = self._get(request.context, image_id)
        if key not in found:
            raise exception.ImagePropertyNotFound(image_id=image_id, key=text.shorten(key))
        return json_response({"meta": {key: found[key]}})

    def update(
        self, request: Request, image_id: str, key: str, body: Mapping[str, Any]
    ) -> webob.Response:
        """``PUT .../metadata/{key}``."""
        check_body(body, schema.METADATA_ITEM)
        item = body["meta"]
        if key not in item:
            raise errors.ValidationError(reason="Request body and URI mismatch")
        old = self._get(request.context, image_id)
        self._set(request.context, image_id, old, item)
        return json_response({"meta": item})

    def delete(self, request: Request, image_id: str, key: str) -> webob.Response:
        """``DELETE .../metadata/{key}``."""
        old = self._get(request.context, image_id)
        if key not in old:
            raise exception.ImagePropertyNotFound(image_id=image_id, key=text.shorten(key))
        self._image_api.set_properties(request.context, image_id, {}, remove=[key])
        return empty_response(204)

    def _get(self, context: RequestContext, image_id: str) -> dict[str, str]:
        return properties_of(get_image(self._image_api, context, image_id))

    def _set(
        self,
        context: RequestContext,
        image_id: str,
        old: Mapping[str, str],
        items: Mapping[str, str],
        remove: Collection[str] = (),
    ) -> webob.Response:
        for key in items:
            if key in ATTRIBUTES:
                raise errors.ValidationError(
                    reason=f"{key} is an attribute of the image, and none of its metadata."
                )
        allowed = self._conf.quota.metadata_items
        after = {*old, *items} - set(remove)
        if 0 <= allowed < len(after):
            raise exception.MetadataLimitExceeded(allowed=allowed, given=len(after))
        image = self._image_api.set_properties(context, image_id, items, remove)
        return json_response({"metadata": properties_of(image)})
