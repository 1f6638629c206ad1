# SPDX-License-Identifier: Apache-2.0
"""Uploads of a file: by a bare client, which no snapshot can be faster than, and by Nova's."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import requests

PIECE = 1 << 20
SECONDS = 600


class Body:
    """A file in pieces of 1 MiB, whose length becomes the request's Content-Length."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __len__(self) -> int:
        return os.path.getsize(self._path)

    def __iter__(self) -> Iterator[bytes]:
        with self._path.open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                yield piece


def bare(glance_url: str, image_id: str, path: Path) -> None:
    """Send a file as an image's data; the image is active when this returns.

    :raises requests.RequestException: if it does not become so.
    """
    answer = requests.put(
        f"{glance_url}/v2/images/{image_id}/file",
        data=Body(path),
        headers={"Content-Type": "application/octet-stream"},
        timeout=SECONDS,
    )
    answer.raise_for_status()


def by_glanceclient(client: Any, image_id: str, path: Path) -> None:
    """The same with python-glanceclient (v2), which sends chunks of 64 KiB without a length."""
    with path.open("rb") as file:
        client.images.upload(image_id, file)
