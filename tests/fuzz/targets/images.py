# SPDX-License-Identifier: Apache-2.0
"""Image records that no image service should hold, met by the API and by the snapshots."""

import json
import random
from collections.abc import Hashable, Sequence
from typing import Any, Final

from nova_snap import exception
from nova_snap.compute import image_properties
from nova_snap.image import records
from nova_snap.virt.libvirt import image_inspection, snapshot_metadata
from tests.functional.api import service as svc
from tests.fuzz import mutation, wsgi_calls
from tests.fuzz.targets.api import API
from tests.fuzz.wsgi_calls import call

_RECORD: Final[dict[str, Any]] = {
    "id": svc.IMAGE,
    "name": "base",
    "status": "active",
    "size": 1 << 20,
    "virtual_size": 1 << 30,
    "min_disk": 0,
    "min_ram": 0,
    "disk_format": "qcow2",
    "container_format": "bare",
    "visibility": "public",
    "owner": svc.PROJECT,
    "created_at": "2026-01-01T00:00:00Z",
    "updated_at": "2026-01-01T00:00:00Z",
    "checksum": "d41d8cd98f00b204e9800998ecf8427e",
    "os_hash_algo": "sha512",
    "os_hash_value": "0" * 128,
    "os_hidden": False,
    "protected": False,
    "tags": ["a"],
    "locations": [],
    "os_distro": "debian",
    "hw_qemu_guest_agent": "yes",
    "os_require_quiesce": "no",
    "instance_uuid": svc.ACTIVE,
    "image_type": "snapshot",
    "block_device_mapping": '[{"source_type": "snapshot", "boot_index": 0}]',
}
_AS_ADMIN = {"X_Auth_Token": svc.ADMIN_TOKEN, "OpenStack_API_Version": "compute 2.1"}
_CALLS: Final = (
    call("GET", f"/v2.1/images/{svc.IMAGE}", **_AS_ADMIN),
    call("GET", "/v2.1/images/detail", **_AS_ADMIN),
    call("GET", f"/v2.1/images/{svc.IMAGE}/metadata", **_AS_ADMIN),
    call("GET", f"/v2.1/images/{svc.IMAGE}/metadata/os_distro", **_AS_ADMIN),
    call(
        "POST",
        "/v2.1/servers",
        {"server": {"name": "new", "imageRef": svc.IMAGE, "flavorRef": "1"}},
        **_AS_ADMIN,
    ),
)
# That the image service makes no sense may be said.
_ALLOWED: Final = frozenset({502, 503})


class Images(API):
    renew_after = 50

    def seeds(self) -> Sequence[bytes]:
        return [
            json.dumps(_RECORD).encode(),
            json.dumps({**_RECORD, "status": "queued", "size": None}).encode(),
        ]

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        record = mutation.of_json(json.loads(data), json.loads(other), dice)
        try:
            # As a record comes: out of JSON, and an object.
            record = json.loads(mutation.to_text(record))
        except (ValueError, RecursionError):
            return data
        return json.dumps(record if isinstance(record, dict) else {"id": record}).encode()

    def run(self, data: bytes) -> Hashable:
        # What the image service is asked for is what it answers: it may not lie about that.
        record = {**json.loads(data), "id": svc.IMAGE}
        wrong = records.problem(record)
        if wrong is not None:
            return wrong[:12]
        self.service.images.records[svc.IMAGE] = record
        outcome: list[Hashable] = [self._ask(number) for number in range(len(_CALLS))]
        instance = self.service.instance(svc.ACTIVE)
        kept = image_properties.kept_with_instance(record)
        instance.system_metadata = kept
        instance.save()
        context = self.service.context(project_id=svc.PROJECT, user_id="alice")
        try:
            image_properties.build(context, instance, "snap", "snapshot", {}, ())
            image_properties.build_further(record, instance, "vdb", context)
            snapshot_metadata.create(record, instance, "qcow2", "snap")
            image_inspection.check_record(svc.IMAGE, record)
        except exception.NovaSnapError as error:
            outcome.append(str(error)[:40])
        return tuple(outcome)

    def _ask(self, number: int) -> Hashable:
        self.log.clear()
        made = _CALLS[number]
        answer = wsgi_calls.Answer(self.service.app, wsgi_calls.environ_of(made))
        wsgi_calls.check(made, answer, self.log, _ALLOWED)
        return answer.status


TARGET = Images
