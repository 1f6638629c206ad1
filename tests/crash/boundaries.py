# SPDX-License-Identifier: Apache-2.0
"""Where a snapshot changes something outside of its process, so that a death leaves something.

Each call of one of :data:`WATCHED` is two boundaries, one before it and one after it. They are
found by running a snapshot, and not listed anywhere: what a method comes to do in future is in the
matrix without anybody's having thought of it. The product knows nothing of this.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

from nova_snap.compute import manager, rpcapi
from nova_snap.image import glance, upload
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction, InstanceActionEvent
from nova_snap.objects.snapshot_request import SnapshotRequest
from nova_snap.virt.libvirt.host import Host
from nova_snap.virt.libvirt.qemu_img import QemuImg
from nova_snap.virt.libvirt.snapshot import workdir

Label = Callable[..., str | None]

# Calls of libvirt that change nothing.
_READS = {
    "getHostname", "getInfo", "getCapabilities", "getVersion", "listAllDomains", "blockInfo",
    "blockJobInfo", "backupGetXMLDesc", "state", "isActive", "isPersistent", "XMLDesc",
    "hasManagedSaveImage", "autostart", "getTime", "lookupByName", "lookupByUUIDString",
    "domainEventRegisterAny", "domainEventDeregisterAny", "secretGetValue",
}  # fmt: skip


def _libvirt(_host: Any, operation: str, *_arguments: Any, **_more: Any) -> str | None:
    return None if operation in _READS else f"libvirt {operation}"


def _journal(_workdir: Any, **facts: Any) -> str:
    return "journal: " + ", ".join(
        f"{name}{'' if value else ' no more'}" for name, value in sorted(facts.items())
    )


def _process(_popen: Any, args: Any, *_arguments: Any, **_more: Any) -> str:
    words = [str(word) for word in args]
    program = words[words.index("--") + 1 :] if "--" in words else words
    name = os.path.basename(program[0])
    return f"start of {' '.join([name, *program[1:2]]) if name == 'qemu-img' else name}"


def _state(instance: Any, *_arguments: Any, **_more: Any) -> str:
    return f"instance: task_state {instance.task_state}"


def _named(text: str) -> Label:
    return lambda *_arguments, **_more: text


WATCHED: tuple[tuple[Any, str, Label], ...] = (
    (Host, "call", _libvirt),
    (workdir, "create", _named("work directory made")),
    (workdir.WorkDir, "note", _journal),
    (workdir.WorkDir, "close", _named("work directory removed")),
    (subprocess.Popen, "__init__", _process),
    (QemuImg, "_run", lambda _tool, command, *_rest, **_more: f"qemu-img {command}"),
    (Instance, "save", _state),
    (InstanceAction, "start", _named("action begins")),
    (InstanceAction, "finish", _named("action ends")),
    (InstanceActionEvent, "begin", _named("event begins")),
    (InstanceActionEvent, "_finish", _named("event ends")),
    (SnapshotRequest, "record", _named("request recorded")),
    (SnapshotRequest, "advance", _named("request advanced")),
    (SnapshotRequest, "forget", _named("request forgotten")),
    (rpcapi.ComputeAPI, "snapshot_instance", _named("message sent")),
    (rpcapi.ComputeAPI, "backup_instance", _named("message sent")),
    (manager.ComputeManager, "_accept", _named("message taken up")),
    (glance.API, "create", _named("image: create")),
    (glance.API, "set_properties", _named("image: set properties")),
    (glance.API, "update", _named("image: upload")),
    (glance.API, "delete", _named("image: delete")),
    (upload.Body, "_read", _named("image: next bytes")),
    (upload.SizedBody, "_read", _named("image: next bytes")),
)

ENDED = "action ends"
"""Its second boundary: from there on a kill is too late to hit the snapshot."""


class Boundaries:
    """Counts the boundaries that this process passes, writes them down, and dies at one of them.

    :param trace: the file that they are written into, a line each, before anything else happens.
    """

    def __init__(self, trace: Path) -> None:
        self._trace = os.open(trace, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        self._lock = threading.Lock()
        self._target: Mapping[str, Any] = {}
        self._seen: collections.Counter[tuple[str, str]] = collections.Counter()

    def watch(self) -> Self:
        """Take the place of the watched functions, for the life of the process."""
        for owner, name, label in WATCHED:
            static = inspect.getattr_static(owner, name)
            kind = type(static) if isinstance(static, classmethod | staticmethod) else None
            function = static.__func__ if kind else static
            # An object's first argument is in every label's signature; a plain function has none.
            wrapped = self._wrap(function, label, bare=inspect.ismodule(owner))
            setattr(owner, name, kind(wrapped) if kind else wrapped)
        return self

    def arm(self, target: Mapping[str, Any]) -> None:
        """Count from 0, and die at ``target``: label, when and nth of a boundary, or the count of
        boundaries of any kind; with ``later``, so many seconds after it; at none if it is empty.
        With ``group``, that process group dies instead."""
        with self._lock:
            os.ftruncate(self._trace, 0)
            self._seen.clear()
            self._target = target

    def _wrap(self, function: Any, label: Label, *, bare: bool) -> Any:
        @functools.wraps(function)
        def watched(*arguments: Any, **more: Any) -> Any:
            text = label(*arguments, **more) if not bare else label()
            if text is None:
                return function(*arguments, **more)
            self._pass("before", text)
            answer = function(*arguments, **more)
            self._pass("after", text)
            return answer

        return watched

    def _pass(self, when: str, label: str) -> None:
        with self._lock:
            self._seen[when, label] += 1
            nth = self._seen[when, label]
            os.write(self._trace, f"{when}\t{label}\t{nth}\n".encode())
            here = {"when": when, "label": label, "nth": nth}
            wanted = {key: self._target[key] for key in self._target.keys() - {"later", "group"}}
            if wanted not in (here, {"count": self._seen.total()}):
                return
            group = self._target.get("group")
            if later := self._target.get("later", 0):
                # libvirt, within this process, goes on meanwhile.
                threading.Timer(later, _kill, [group]).start()
            else:
                _kill(group)


def _kill(group: int | None) -> None:
    if group is None:
        os.kill(os.getpid(), signal.SIGKILL)
        return
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
