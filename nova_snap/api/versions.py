# SPDX-License-Identifier: Apache-2.0
"""The documents that tell a client which versions there are. Nobody needs to sign in for them."""

from typing import Any, Final

import webob
from oslo_config import cfg

from nova_snap.api import microversion
from nova_snap.api.views.links import API_PATH, Links
from nova_snap.api.wsgi import Request, json_response

# When Nova's own v2.1 was born: what is served here is that API.
_UPDATED: Final = "2013-07-23T11:33:21Z"
_MEDIA_TYPE: Final = {
    "base": "application/json",
    "type": "application/vnd.openstack.compute+json;version=2.1",
}
_DOCUMENTATION: Final = {
    "rel": "describedby",
    "type": "text/html",
    "href": "https://docs.openstack.org/api-ref/compute/",
}


class Controller:
    """``/`` and ``/v2.1``."""

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def index(self, request: Request) -> webob.Response:
        """Every version: there is one."""
        return json_response({"versions": [self._version(request)]})

    def show(self, request: Request) -> webob.Response:
        """The version 2.1."""
        version = self._version(request)
        version["links"].append(_DOCUMENTATION)
        version["media-types"] = [_MEDIA_TYPE]
        return json_response({"version": version})

    def _version(self, request: Request) -> dict[str, Any]:
        root = Links(self._conf, request).root
        return {
            "id": "v2.1",
            "status": "CURRENT",
            "version": str(microversion.MAX),
            "min_version": str(microversion.MIN),
            "updated": _UPDATED,
            "links": [{"rel": "self", "href": f"{root}/{API_PATH}/"}],
        }
