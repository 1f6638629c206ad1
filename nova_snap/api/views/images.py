# SPDX-License-Identifier: Apache-2.0
"""Images as clients of before 2.36 see them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from oslo_utils import strutils, uuidutils

from nova_snap.api.schemas.types import words
from nova_snap.api.views.links import Links

View = dict[str, Any]

_MEDIA_TYPE: Final = "application/vnd.openstack.image"

# The image service's word: (Nova's word, how far it is in percent).
_STATUS: Final = {
    "queued": ("SAVING", 25),
    "saving": ("SAVING", 50),
    "importing": ("SAVING", 50),
    "uploading": ("SAVING", 50),
    "active": ("ACTIVE", 100),
    "killed": ("ERROR", 0),
    "deleted": ("DELETED", 0),
    "pending_delete": ("DELETED", 0),
}

# What the image service itself knows of an image; everything else is a property of its owner's.
ATTRIBUTES: Final = frozenset(
    words(
        "id name status visibility protected os_hidden checksum os_hash_algo os_hash_value owner "
        "size virtual_size container_format disk_format created_at updated_at tags direct_url "
        "min_ram min_disk self file stores schema locations add_location"
    )
)


def properties_of(image: Mapping[str, Any]) -> dict[str, str]:
    """What Nova calls the image's metadata."""
    return {
        name: str(value)
        for name, value in image.items()
        if name not in ATTRIBUTES and value is not None
    }


def glance_statuses(status: str) -> list[str]:
    """The image service's words for a status of Nova's that an image in a list may have."""
    hidden = ("DELETED", "ERROR")
    wanted = status.upper()
    return [
        word for word, (shown, _) in _STATUS.items() if shown == wanted and wanted not in hidden
    ]


class ViewBuilder:
    """Makes the views of one request.

    :param image_url: where the image service itself has an image, by the image's id.
    """

    def __init__(self, links: Links, image_url: Callable[[str], str]) -> None:
        self._links = links
        self._image_url = image_url

    def basic(self, image: Mapping[str, Any]) -> View:
        """What ``/images`` shows."""
        identifier = image["id"]
        alternate = {"rel": "alternate", "type": _MEDIA_TYPE, "href": self._image_url(identifier)}
        return {
            "id": identifier,
            "name": image.get("name"),
            "links": [*self._links.of("images", identifier), alternate],
        }

    def show(self, image: Mapping[str, Any]) -> View:
        """What ``/images/detail`` and ``/images/{image_id}`` show."""
        status, progress = _STATUS.get(image["status"], ("UNKNOWN", 0))
        properties = properties_of(image)
        view = {
            **self.basic(image),
            "created": image.get("created_at"),
            "updated": image.get("updated_at"),
            "status": status,
            "progress": progress,
            "minDisk": image.get("min_disk") or 0,
            "minRam": image.get("min_ram") or 0,
            "metadata": properties,
            "OS-EXT-IMG-SIZE:size": image.get("size") or 0,
        }
        server = properties.get("instance_uuid")
        if uuidutils.is_uuid_like(server):
            view["server"] = {"id": server, "links": self._links.of("servers", str(server))}
        if "auto_disk_config" in properties:
            automatic = strutils.bool_from_string(properties["auto_disk_config"])
            view["OS-DCF:diskConfig"] = "AUTO" if automatic else "MANUAL"
        return view
