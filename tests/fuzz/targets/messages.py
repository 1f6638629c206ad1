# SPDX-License-Identifier: Apache-2.0
"""Messages to a compute host, as another service might send them, and what they must not touch."""

import json
import random
import time
import types
import uuid
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any, Final

from oslo_messaging.rpc import dispatcher

from nova_snap.compute import rpc, task_states
from nova_snap.compute.instance_locks import InstanceLocks
from nova_snap.compute.lifecycle_manager import LifecycleManager
from nova_snap.compute.manager import ComputeManager
from nova_snap.compute.volume_manager import VolumeManager
from nova_snap.context import get_admin_context
from nova_snap.objects.instance import Instance
from nova_snap.virt.fake import FakeDriver
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import PROJECT, USER, make_instance
from tests.fixtures.volumes import MemoryVolumes
from tests.fuzz import mutation, parts
from tests.fuzz.target import Finding, Target

_IDLE: Final = "00000000-0000-0000-0000-00000000000a"
_ASKED: Final = "00000000-0000-0000-0000-00000000000b"
_OTHERS: Final = "00000000-0000-0000-0000-00000000000c"
_QUEUED: Final = "10000000-0000-0000-0000-00000000000a"
_ANNOUNCED: Final = "10000000-0000-0000-0000-00000000000b"
_PRECIOUS: Final = "10000000-0000-0000-0000-00000000000c"
_RUNNING: Final = (
    task_states.IMAGE_SNAPSHOT,
    task_states.IMAGE_PENDING_UPLOAD,
    task_states.IMAGE_UPLOADING,
)
_LONGEST: Final = 30.0
_SERIALISED: Final = {
    "nova_object.name": "Instance",
    "nova_object.namespace": "nova",
    "nova_object.version": "2.7",
    "nova_object.data": {"uuid": _IDLE, "vm_state": "active"},
}
_CONTEXT: Final = {
    "user_id": USER,
    "project_id": PROJECT,
    "roles": ["member", "reader"],
    "request_id": "req-00000000-0000-0000-0000-000000000001",
    "timestamp": "2026-01-01T00:00:00",
    "service_catalog": [],
    "is_admin": False,
    "auth_token": "token",
}


class StrictImages(MemoryImages):
    """Finds what would become part of an URL of the image service, and is no id."""

    def _record(self, image_id: str) -> dict[str, Any]:
        try:
            good = str(uuid.UUID(image_id)) == image_id
        except (ValueError, TypeError, AttributeError):
            good = False
        if not good:
            raise Finding("the image service is asked for an image whose id is none")
        return super()._record(image_id)


class Messages(Target):
    bound = 60.0
    renew_after = 30

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self._conf = parts.configuration(directory)
        self._conf.set_override("snapshot_size", 512, "fake")
        self._database = parts.database(self._conf)
        self._log = parts.LogWatch()
        self._managers: tuple[Any, ...] = ()
        self.renew()
        self._log.watch()

    def renew(self) -> None:
        self._stop()
        parts.empty(self._database)
        self._images = StrictImages()
        driver = FakeDriver(self._conf, self._images)
        locks = InstanceLocks()
        given = (self._conf, self._database, self._images)
        manager = ComputeManager(*given, driver, locks=locks)
        lifecycle = LifecycleManager(*given, driver, locks)
        volumes = VolumeManager(*given, MemoryVolumes(), driver)
        self._managers = (manager, lifecycle, volumes)
        self._dispatcher = dispatcher.RPCDispatcher(
            list(self._managers),
            rpc.RequestContextSerializer(),
            dispatcher.ExplicitRPCAccessPolicy,
        )
        manager.init_host()
        self._fill()

    def _fill(self) -> None:
        context = get_admin_context(self._database)
        context.project_id = PROJECT
        for image_id in (_QUEUED, _ANNOUNCED, _PRECIOUS):
            self._images.create(context, {"id": image_id, "name": "snap"})
        self._images.records[_PRECIOUS].update(status="active", size=1)
        make_instance(context, uuid=_IDLE)
        make_instance(
            context,
            uuid=_ASKED,
            task_state=task_states.IMAGE_SNAPSHOT_PENDING,
            snapshot_image_id=_ANNOUNCED,
        )
        make_instance(context, uuid=_OTHERS, host="compute-2", project_id="other")

    def _stop(self) -> None:
        if self._managers:
            manager, lifecycle, volumes = self._managers
            volumes.stop()
            if lifecycle.stop(_LONGEST) + manager.stop(_LONGEST):
                raise Finding("a manager does not stop")

    def close(self) -> None:
        self._stop()
        self._database.close()

    def seeds(self) -> Sequence[bytes]:
        found = []
        for instance, image_id in (
            (_IDLE, _QUEUED),
            (_SERIALISED, _QUEUED),
            ({"uuid": _ASKED}, _ANNOUNCED),
            (_OTHERS, _QUEUED),
            (_IDLE, _PRECIOUS),
        ):
            snapshot = {"instance": instance, "image_id": image_id}
            found += [
                _message("snapshot_instance", **snapshot),
                _message("backup_instance", **snapshot, backup_type="daily", rotation=1),
                _message("quiesce_instance", **snapshot),
                _message("unquiesce_instance", **snapshot),
            ]
        for method in ("terminate", "start", "stop", "pause", "unpause", "suspend", "reboot"):
            found.append(_message(f"{method}_instance", instance=_IDLE))
        found.append(_message("build_instance", instance=_IDLE, network="none"))
        found.append(_message("get_console_output", instance=_IDLE, length=5))
        return found

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        value = mutation.of_json(json.loads(data), json.loads(other), dice)
        try:
            changed = json.loads(mutation.to_text(value))
        except (ValueError, RecursionError):
            return data
        whole = isinstance(changed, dict) and {"method", "args", "context"} <= set(changed)
        return json.dumps(changed).encode() if whole else data

    def run(self, data: bytes) -> Hashable:
        message = json.loads(data)
        self._log.clear()
        before = self._untouchable()
        outcome = self._dispatch(message)
        self._settle()
        for _request_id, error in self._log.tracebacks:
            raise error
        if self._untouchable() != before:
            raise Finding("a message changes what it must not", repr(message)[:300])
        words = [line.split(":")[0][:40] for line in self._log.lines]
        return outcome, "".join(c for c in "".join(words) if not c.isdigit())[:100]

    def _dispatch(self, message: dict[str, Any]) -> Hashable:
        if not isinstance(message["args"], dict) or not isinstance(message["method"], str):
            return "no message"
        wanted = {"method": message["method"], "args": message["args"], "version": rpc.VERSION}
        incoming = types.SimpleNamespace(
            ctxt=message["context"], message=wanted, client_timeout=None
        )
        try:
            self._dispatcher.dispatch(incoming)
        except (dispatcher.NoSuchMethod, dispatcher.UnsupportedVersion):
            return "no such method"
        except TypeError as error:
            # Arguments that are missing, or that no method has: Python says so, in the library.
            if "argument" in str(error) and _is_of_the_call(error):
                return "other arguments"
            raise
        return message["method"]

    def _settle(self) -> None:
        """Until nothing goes on any more."""
        until = time.monotonic() + _LONGEST
        while self._instances_running():
            if time.monotonic() > until:
                raise Finding("a snapshot does not end")
            time.sleep(0.002)

    def _instances_running(self) -> bool:
        context = get_admin_context(self._database)
        states = []
        for instance_uuid in (_IDLE, _ASKED):
            found = Instance.get_by_uuid(context, instance_uuid, read_deleted=True)
            states.append(found.task_state)
        return any(state in _RUNNING for state in states)

    def _untouchable(self) -> Hashable:
        other = Instance.get_by_uuid(get_admin_context(self._database), _OTHERS)
        return repr(other), repr(self._images.records.get(_PRECIOUS))


def _message(method: str, **arguments: Any) -> bytes:
    return json.dumps({"method": method, "args": arguments, "context": _CONTEXT}).encode()


def _is_of_the_call(error: TypeError) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and "oslo_messaging" in trace.tb_frame.f_code.co_filename


TARGET = Messages
