# SPDX-License-Identifier: Apache-2.0
"""What the tests of the compute manager share."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from nova_snap.compute import task_states
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance
from nova_snap.objects.instance_action import InstanceAction
from tests.fixtures.images import MemoryImages
from tests.fixtures.service import make_instance

PENDING = task_states.IMAGE_SNAPSHOT_PENDING
SIZE = 1000
SOON = 20


def pending(context: RequestContext, images: MemoryImages, **values: Any) -> tuple[Instance, str]:
    """An instance as the API leaves it: image, claim and action."""
    image_id: str = images.create(context, {"name": "snap"})["id"]
    given = {"task_state": PENDING, "snapshot_image_id": image_id, **values}
    instance = make_instance(context, **given)
    InstanceAction.start(context, instance.uuid, "createImage")
    return instance, image_id


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < until, "it never came true"
        time.sleep(0.01)


def ended(context: RequestContext, instance: Instance) -> Instance:
    """The instance when the snapshot has ended."""

    def is_free() -> bool:
        return Instance.get_by_uuid(context, instance.uuid).task_state is None

    wait_until(is_free)
    return Instance.get_by_uuid(context, instance.uuid)


def reason(context: RequestContext, instance: Instance) -> str | None:
    action, *_ = InstanceAction.get_by_instance_uuid(context, instance.uuid)
    assert action.finish_time is not None
    return action.message


@contextlib.contextmanager
def no_more_threads(monkeypatch: pytest.MonkeyPatch, prefix: str) -> Iterator[None]:
    """None whose name begins with ``prefix`` can be started, as when the system has no more."""
    start = threading.Thread.start

    def try_to_start(thread: threading.Thread) -> None:
        if thread.name.startswith(prefix):
            raise RuntimeError("can't start new thread")
        start(thread)

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", try_to_start)
        yield
