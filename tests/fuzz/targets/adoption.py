# SPDX-License-Identifier: Apache-2.0
"""Domains that somebody else has made become instances: from their XML to the database."""

import random
import uuid
from collections.abc import Hashable, Sequence
from pathlib import Path

from nova_snap import exception
from nova_snap.compute import adoption, image_properties
from nova_snap.context import get_admin_context
from nova_snap.objects.instance import Instance
from nova_snap.virt.driver import AdoptedDomain
from nova_snap.virt.libvirt import adoption as describing
from nova_snap.virt.libvirt import domain_xml
from tests.fixtures.images import MemoryImages
from tests.fuzz import parts, xml_mutation
from tests.fuzz.target import Finding, Target
from tests.fuzz.targets.domain import seeds, text
from tests.unit.virt.doubles import FakeGuest

_OWNER = adoption.Owner("project", "user")


class Guest(FakeGuest):
    """Says of itself what a test wants it to."""

    said = ""

    def xml(self) -> str:
        return self.said

    def describe(self) -> domain_xml.Domain:
        return domain_xml.parse(self.said, self.name)


class Driver:
    """The hypervisor, as far as adopting asks it."""

    def __init__(self, guest: Guest) -> None:
        self._guest = guest

    def describe_domain(self, name: str) -> AdoptedDomain:
        return describing.describe(self._guest)  # type: ignore[arg-type]


class Adoption(Target):
    renew_after = 200

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._database = parts.database(parts.configuration(directory))
        self._guest = Guest()
        self.renew()

    def renew(self) -> None:
        parts.empty(self._database)
        self._images = MemoryImages()
        context = get_admin_context(self._database)
        self._images.create(context, {"id": "11111111-1111-1111-1111-111111111111", "name": "base"})

    def close(self) -> None:
        self._database.close()

    def seeds(self) -> Sequence[bytes]:
        return seeds()

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        return xml_mutation.of_xml(data, other, dice)

    def run(self, data: bytes) -> Hashable:
        # Each domain is met twice: as a new one, and as one that is known.
        self._guest.said = text(data)
        context = get_admin_context(self._database)
        driver = Driver(self._guest)
        try:
            for _ in range(2):
                found, _new = adoption.adopt(
                    context,
                    driver,  # type: ignore[arg-type]
                    self._images,
                    parts.HOST,
                    self._guest.name,
                    _OWNER,
                )
        except exception.InvalidDomain as error:
            return error.reason[:12]
        except exception.AlreadyAdopted:
            return "known"
        stored = Instance.get_by_uuid(context, found.uuid)
        self._check(stored)
        image_properties.build(context, stored, "snap", "snapshot", {}, ())
        stored.destroy()
        return stored.vm_state, stored.image_ref is None, len(stored.system_metadata)

    def _check(self, instance: Instance) -> None:
        if str(uuid.UUID(instance.uuid)) != instance.uuid:
            raise Finding("an instance has a uuid that is none", instance.uuid[:80])
        flavor = instance.flavor
        sizes = (flavor.vcpus, flavor.memory_mb, flavor.root_gb, flavor.ephemeral_gb, flavor.swap)
        if min(sizes) < 0 or not flavor.vcpus:
            raise Finding("an instance has a size that no guest has", repr(sizes))


TARGET = Adoption
