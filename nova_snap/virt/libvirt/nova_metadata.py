# SPDX-License-Identifier: Apache-2.0
"""The element by which Nova tells, in a domain's XML, what instance the domain is.

Nova writes ``<nova:instance>`` into ``<metadata>``: since 2014 in the namespace that ends in 1.0,
later in the one that ends in 1.1, with more in it each time. Whatever of it is missing is
``None`` here. The domains that nova_snap makes have it too, for whoever reads it of Nova's.
"""

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Final

from lxml import etree

NAMESPACES: Final = (
    "http://openstack.org/xmlns/libvirt/nova/1.1",
    "http://openstack.org/xmlns/libvirt/nova/1.0",
)

# What a column of Nova's own database holds.
_MAX_NUMBER: Final = 2**31 - 1
_MAX_DIGITS: Final = len(str(_MAX_NUMBER))


@dataclasses.dataclass(frozen=True)
class NovaMetadata:
    """:ivar created_at: as Nova writes it, ``YYYY-MM-DD hh:mm:ss`` in UTC.

    :ivar image_ref: uuid of the image that the root disk was made from.
    """

    display_name: str | None = None
    created_at: str | None = None
    project_id: str | None = None
    project_name: str | None = None
    user_id: str | None = None
    user_name: str | None = None
    image_ref: str | None = None
    flavor_name: str | None = None
    memory_mb: int | None = None
    vcpus: int | None = None
    root_gb: int | None = None
    ephemeral_gb: int | None = None
    swap_mb: int | None = None
    image_properties: Mapping[str, str] = dataclasses.field(default_factory=dict)


def parse(domain: etree._Element) -> NovaMetadata:
    """:param domain: the ``<domain>`` element."""
    for namespace in NAMESPACES:
        instance = domain.find(f"metadata/{{{namespace}}}instance")
        if instance is not None:
            return _parse_instance(_Element(instance, namespace))
    return NovaMetadata()


class _Element:
    """An element whose children are all of one namespace."""

    def __init__(self, element: etree._Element, namespace: str) -> None:
        self._element = element
        self._namespaces = {"nova": namespace}

    def find(self, path: str) -> etree._Element | None:
        return self._element.find(path, self._namespaces)

    def findall(self, path: str) -> list[etree._Element]:
        return list(self._element.iterfind(path, self._namespaces))

    def text(self, path: str) -> str | None:
        return (self._element.findtext(path, None, self._namespaces) or "").strip() or None

    def integer(self, path: str) -> int | None:
        text = self.text(path)
        if text is None or not (text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS):
            return None
        number = int(text)
        return number if number <= _MAX_NUMBER else None

    def uuid(self, path: str) -> str | None:
        """Which becomes a part of URLs: nothing else may."""
        text = self.attribute(path, "uuid") or ""
        try:
            return text if str(uuid.UUID(text)) == text.lower() else None
        except ValueError:
            return None

    def attribute(self, path: str, name: str) -> str | None:
        element = self.find(path)
        return None if element is None else (element.get(name) or None)


def _parse_instance(nova: _Element) -> NovaMetadata:
    root_type = nova.attribute("nova:root", "type")
    return NovaMetadata(
        display_name=nova.text("nova:name"),
        created_at=nova.text("nova:creationTime"),
        project_id=nova.attribute("nova:owner/nova:project", "uuid"),
        project_name=nova.text("nova:owner/nova:project"),
        user_id=nova.attribute("nova:owner/nova:user", "uuid"),
        user_name=nova.text("nova:owner/nova:user"),
        image_ref=nova.uuid("nova:root") if root_type == "image" else None,
        flavor_name=nova.attribute("nova:flavor", "name"),
        memory_mb=nova.integer("nova:flavor/nova:memory"),
        vcpus=nova.integer("nova:flavor/nova:vcpus"),
        root_gb=nova.integer("nova:flavor/nova:disk"),
        ephemeral_gb=nova.integer("nova:flavor/nova:ephemeral"),
        swap_mb=nova.integer("nova:flavor/nova:swap"),
        image_properties={
            element.get("name", ""): (element.text or "").strip()
            for element in nova.findall("nova:image/nova:properties/nova:property")
            if element.get("name")
        },
    )


def build(nova: NovaMetadata) -> etree._Element:
    """The ``<nova:instance>`` that :func:`parse` finds the same in; of version 1.1."""
    namespace = NAMESPACES[0]
    instance = etree.Element(f"{{{namespace}}}instance", nsmap={"nova": namespace})

    def add(
        parent: etree._Element, tag: str, text: object = None, **attributes: str | None
    ) -> etree._Element:
        given = {key: value for key, value in attributes.items() if value is not None}
        child = etree.SubElement(parent, f"{{{namespace}}}{tag}", given)
        if text is not None:
            child.text = str(text)
        return child

    if nova.display_name is not None:
        add(instance, "name", nova.display_name)
    if nova.created_at is not None:
        add(instance, "creationTime", nova.created_at)
    flavor = add(instance, "flavor", name=nova.flavor_name)
    for tag, value in (
        ("memory", nova.memory_mb), ("disk", nova.root_gb), ("swap", nova.swap_mb),
        ("ephemeral", nova.ephemeral_gb), ("vcpus", nova.vcpus),
    ):  # fmt: skip
        if value is not None:
            add(flavor, tag, value)
    owner = add(instance, "owner")
    if nova.user_id is not None:
        add(owner, "user", nova.user_name, uuid=nova.user_id)
    if nova.project_id is not None:
        add(owner, "project", nova.project_name, uuid=nova.project_id)
    if nova.image_ref is not None:
        add(instance, "root", type="image", uuid=nova.image_ref)
    properties = add(add(instance, "image"), "properties")
    for name, text in sorted(nova.image_properties.items()):
        add(properties, "property", text, name=name)
    return instance
