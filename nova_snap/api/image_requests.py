# SPDX-License-Identifier: Apache-2.0
"""What createImage and createBackup have in common."""

from collections.abc import Mapping

import webob
from oslo_config import cfg

from nova_snap import exception
from nova_snap.api.wsgi import Request, empty_response, json_response
from nova_snap.compute.api import API


def check_metadata_quota(
    conf: cfg.ConfigOpts, request: Request, properties: Mapping[str, str]
) -> None:
    """From microversion 2.39 on the limit is the image service's own.

    :raises nova_snap.exception.MetadataLimitExceeded: if there are too many properties.
    """
    allowed = conf.quota.metadata_items
    if not request.microversion.at_least(39) and 0 <= allowed < len(properties):
        raise exception.MetadataLimitExceeded(allowed=allowed, given=len(properties))


def accepted(request: Request, compute_api: API, image_id: str | None) -> webob.Response:
    """The answer that names the image: 2.45 put its id where clients had cut it out of a URL.

    :param image_id: ``None`` for an image that will be gone when it is done.
    """
    if image_id is not None and request.microversion.at_least(45):
        return json_response({"image_id": image_id}, status=202)
    response = empty_response(202)
    if image_id is not None:
        response.headers["Location"] = compute_api.image_url(request.context, image_id)
    return response
