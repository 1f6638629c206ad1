# SPDX-License-Identifier: Apache-2.0
"""Reading a list page by page, in every order: each server once, none left out."""

from urllib.parse import urlsplit

import pytest

from nova_snap.api import server_search
from nova_snap.api.schemas import servers as schema
from tests.functional.api import service as svc
from tests.functional.api.service import Service


def pages(service: Service, query: str) -> list[list[str]]:
    """The ids that each page shows."""
    found = []
    path = f"/v2.1/servers?{query}"
    while path:
        body = service.get(path, token=svc.ADMIN_TOKEN).json
        found.append([server["id"] for server in body["servers"]])
        link = urlsplit(body.get("servers_links", [{"href": ""}])[0]["href"])
        path = f"{link.path}?{link.query}" if link.path else ""
        assert len(found) < 20, "the links lead in a circle"
    return found


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("key", sorted(server_search.SORTABLE))
def test_each_server_is_on_one_page(service: Service, key: str, direction: str) -> None:
    whole = pages(service, f"sort_key={key}&sort_dir={direction}")
    assert len(whole) == 1
    assert len(whole[0]) == 6
    in_pieces = pages(service, f"sort_key={key}&sort_dir={direction}&limit=2")
    assert [uuid for page in in_pieces for uuid in page] == whole[0]
    assert [len(page) for page in in_pieces] == [2, 2, 2, 0]


def test_the_second_key_decides_where_the_first_does_not(service: Service) -> None:
    query = "sort_key=project_id&sort_key=uuid&sort_dir=asc&sort_dir=desc"
    (whole,) = pages(service, query)
    assert whole == sorted(whole, reverse=True)
    in_pieces = pages(service, f"{query}&limit=1")
    assert [uuid for page in in_pieces for uuid in page] == whole


@pytest.mark.parametrize("key", sorted({*schema.SORT_KEYS, *schema.IGNORED_SORT_KEYS}))
def test_every_key_of_novas_is_accepted(service: Service, key: str) -> None:
    response = service.get(f"/v2.1/servers?sort_key={key}&sort_dir=asc", token=svc.ADMIN_TOKEN)
    assert response.status_int == 200
    assert len(response.json["servers"]) == 6


def test_a_page_may_follow_a_server_that_is_gone(service: Service) -> None:
    first = service.get("/v2.1/servers?limit=2&sort_key=uuid&sort_dir=asc").json
    service.instance(first["servers"][-1]["id"]).destroy()
    link = urlsplit(first["servers_links"][0]["href"])
    second = service.get(f"{link.path}?{link.query}").json
    assert [server["id"] for server in second["servers"]] == [svc.FAILED, svc.VOLUME_BACKED]
