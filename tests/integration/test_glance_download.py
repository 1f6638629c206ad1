# SPDX-License-Identifier: Apache-2.0
"""A download from a real Glance."""

import io
import random
from pathlib import Path

import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.context import RequestContext
from nova_snap.image import glance as image_glance
from tests.fixtures.glance import Glance

DATA = random.Random(2).randbytes(1_500_000) + bytes(1_500_000)
RECORD = {"name": "image", "visibility": "private"}
FORMAT = {"disk_format": "raw", "container_format": "bare"}


@pytest.fixture
def api(conf: cfg.ConfigOpts, trusted_glance: Glance) -> image_glance.API:
    conf.set_override("api_servers", [trusted_glance.url], "glance")
    conf.set_override("num_retries", 0, "glance")
    return image_glance.API(conf)


def asker(project: str) -> RequestContext:
    return RequestContext(
        user_id="kim", project_id=project, roles=["member", "reader"], overwrite=False
    )


def test_what_was_uploaded_comes_back(api: image_glance.API, tmp_path: Path) -> None:
    shop = asker("shop")
    image = api.create(shop, RECORD)
    api.update(shop, image["id"], FORMAT, io.BytesIO(DATA), len(DATA))
    path = tmp_path / "image"
    with path.open("w+b") as file:
        assert api.download(shop, image["id"], file, lambda: None) == len(DATA)
    assert path.read_bytes() == DATA
    with path.open("w+b") as file, pytest.raises(exception.ImageNotFound):
        api.download(asker("other"), image["id"], file, lambda: None)


def test_image_without_data(api: image_glance.API, tmp_path: Path) -> None:
    shop = asker("shop")
    image = api.create(shop, {**RECORD, **FORMAT})
    with (tmp_path / "image").open("w+b") as file, pytest.raises(exception.ImageCorrupt):
        api.download(shop, image["id"], file, lambda: None)
