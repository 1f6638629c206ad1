# SPDX-License-Identifier: Apache-2.0
"""URLs that answers point to."""

from urllib.parse import quote, urlencode, urlsplit, urlunsplit

from oslo_config import cfg

from nova_snap.api.wsgi import Request

API_PATH = "v2.1"


class Links:
    """Makes the links of one request's answer.

    They begin with the URL that the client used, or with ``[api] compute_link_prefix``, and have
    the project in them when the request's path has.
    """

    def __init__(self, conf: cfg.ConfigOpts, request: Request) -> None:
        self._request = request
        self.root = _prefixed(request.application_url, conf.api.compute_link_prefix)
        project = request.url_project_id
        self._project = f"/{quote(project, safe='')}" if project else ""

    def of(self, collection: str, identifier: str) -> list[dict[str, str]]:
        """A resource's links: one for this version of the API, one that outlives it."""
        path = f"{self._project}/{collection}/{quote(identifier, safe='')}"
        return [
            {"rel": "self", "href": f"{self.root}/{API_PATH}{path}"},
            {"rel": "bookmark", "href": self.root + path},
        ]

    def bookmark(self, collection: str, identifier: str) -> list[dict[str, str]]:
        """The link to a resource that is shown inside of another one."""
        return self.of(collection, identifier)[1:]

    def next_page(self, collection: str, marker: str) -> list[dict[str, str]]:
        """The link to what a list shows after ``marker``."""
        query = sorted((key, value) for key, value in self._request.GET.items() if key != "marker")
        query.append(("marker", marker))
        href = f"{self.root}/{API_PATH}{self._project}/{collection}?{urlencode(query)}"
        return [{"rel": "next", "href": href}]


def _prefixed(url: str, prefix: str | None) -> str:
    if not prefix:
        return url.rstrip("/")
    ours, given = urlsplit(url), urlsplit(prefix)
    path = given.path.rstrip("/") + ours.path
    return urlunsplit((given.scheme, given.netloc, path, "", "")).rstrip("/")
