# SPDX-License-Identifier: Apache-2.0
"""The images of the stand-in for an image service."""

from __future__ import annotations

import hashlib
import threading
import uuid
from typing import Any, Final

from oslo_utils import timeutils

SCHEMA: Final = {
    "name": "image",
    "properties": {
        **{name: {"type": ["null", "string"]} for name in ("id", "name", "visibility", "status")},
        **{name: {"type": ["null", "integer"]} for name in ("min_disk", "min_ram", "size")},
        **{name: {"type": "string"} for name in ("disk_format", "container_format")},
        "protected": {"type": "boolean"},
        "tags": {"type": "array"},
        "locations": {"type": "array"},
    },
    "additionalProperties": {"type": "string"},
}


class Refused(Exception):
    """A request that any image service refuses. :ivar status: HTTP's."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Store:
    """The images.

    :ivar records: by id.
    :ivar data: the content of those that have some, by id.
    """

    def __init__(self) -> None:
        self.records: dict[str, dict[str, Any]] = {}
        self.data: dict[str, bytes] = {}
        self.lock = threading.RLock()

    def record(self, image_id: str) -> dict[str, Any]:
        if image_id not in self.records:
            raise Refused(404, f"No image found with ID {image_id}")
        return self.records[image_id]

    def create(self, values: dict[str, Any]) -> dict[str, Any]:
        image_id = values.get("id") or str(uuid.uuid4())
        if image_id in self.records:
            raise Refused(409, f"Image ID {image_id} already exists!")
        now = timeutils.utcnow().isoformat(timespec="seconds") + "Z"
        unknown = ("size", "checksum", "os_hash_algo", "os_hash_value", "owner")
        self.records[image_id] = {
            **dict.fromkeys(unknown),
            "visibility": "shared",
            **values,
            "id": image_id,
            "status": "queued",
            "created_at": now,
            "updated_at": now,
            "tags": [],
        }
        return self.records[image_id]

    def patch(self, image_id: str, changes: list[dict[str, Any]]) -> dict[str, Any]:
        record = self.record(image_id)
        for change in changes:
            name = change["path"].lstrip("/").replace("~1", "/").replace("~0", "~")
            if name.startswith("locations"):
                raise Refused(403, "It's not allowed to add locations if locations are invisible.")
            if change["op"] == "remove":
                del record[name]
            else:
                record[name] = change["value"]
        return record

    def keep(self, image_id: str, data: bytes) -> None:
        record = self.record(image_id)
        self.data[image_id] = data
        record.update(
            status="active",
            size=len(data),
            checksum=hashlib.md5(data, usedforsecurity=False).hexdigest(),
            os_hash_algo="sha512",
            os_hash_value=hashlib.sha512(data).hexdigest(),
        )

    def find(self, query: dict[str, str]) -> list[dict[str, Any]]:
        limit, marker = int(query.pop("limit", "25")), query.pop("marker", None)
        for word in ("sort", "sort_key", "sort_dir", "visibility", "member_status"):
            query.pop(word, None)
        found = [
            each
            for each in self.records.values()
            if all(_matches(each.get(key), value) for key, value in query.items())
        ]
        found.sort(key=lambda each: each["created_at"], reverse=True)
        start = [each["id"] for each in found].index(marker) + 1 if marker else 0
        return found[start : start + limit]

    def delete(self, image_id: str) -> None:
        del self.records[self.record(image_id)["id"]]
        self.data.pop(image_id, None)


def _matches(value: Any, wanted: str) -> bool:
    operator, _, rest = wanted.partition(":")
    return value in rest.split(",") if operator == "in" else str(value) == wanted
