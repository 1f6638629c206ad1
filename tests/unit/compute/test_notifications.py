# SPDX-License-Identifier: Apache-2.0
"""Notifications, with oslo.messaging's notifier and its driver for tests."""

import json
import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from oslo_config import cfg
from oslo_messaging.notify import _impl_test as received

from nova_snap import exception
from nova_snap.compute import notifications
from nova_snap.compute.notifications import NoNotifications, Notifications, Notifier, Phase
from nova_snap.context import RequestContext
from nova_snap.objects.instance import Instance
from tests.fixtures.service import HOST, PROJECT, USER, make_context, make_instance

IMAGE = "45bcde8e-74cf-4844-ac6c-489814f33465"
SOON = 20


@pytest.fixture
def instance(context: RequestContext) -> Instance:
    return make_instance(
        context,
        task_state="image_snapshot",
        metadata={"role": "web"},
        system_metadata={"image_os_distro": "debian"},
    )


@pytest.fixture
def notifier(request: pytest.FixtureRequest, conf: cfg.ConfigOpts) -> Iterator[Notifier]:
    received.reset()
    with_form(conf, getattr(request, "param", "versioned"))
    made = notifications.make(conf)
    yield made
    made.close(SOON)
    received.reset()


def with_form(conf: cfg.ConfigOpts, form: str, driver: str | None = "test") -> None:
    notifications.make(conf)  # registers oslo.messaging's options
    conf.set_override("notification_format", form, "notifications")
    conf.set_override("driver", [driver] if driver else [], "oslo_messaging_notifications")


def messages(notifier: Notifier) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
    """Context, message and priority of all that was sent; the notifier is closed."""
    notifier.close(SOON)
    return [
        (context, message, priority) for context, message, priority, _ in received.NOTIFICATIONS
    ]


def failure() -> Exception:
    try:
        raise exception.SnapshotInterrupted(host=HOST, phase="image_uploading")
    except exception.SnapshotInterrupted as error:
        return error


def test_a_versioned_notification(
    notifier: Notifier, context: RequestContext, instance: Instance
) -> None:
    notifier.snapshot(context, instance, IMAGE, Phase.START)
    ((_, message, priority),) = messages(notifier)
    assert priority == "INFO"
    assert message["event_type"] == "instance.snapshot.start"
    assert message["publisher_id"] == f"nova-snap-compute:{HOST}"
    payload = message["payload"]
    data = payload.pop("nova_object.data")
    assert payload == {
        "nova_object.name": "InstanceActionSnapshotPayload",
        "nova_object.namespace": "nova",
        "nova_object.version": "1.9",
    }
    expected = {
        "uuid": instance.uuid,
        "tenant_id": PROJECT,
        "user_id": USER,
        "host": HOST,
        "display_name": "web",
        "image_uuid": instance.image_ref,
        "state": "active",
        "power_state": "running",
        "task_state": "image_snapshot",
        "launched_at": "2026-01-02T03:04:05Z",
        "deleted_at": None,
        "metadata": {"role": "web"},
        "request_id": context.request_id,
        "action_initiator_user": context.user_id,
        "action_initiator_project": context.project_id,
        "snapshot_image_id": IMAGE,
        "fault": None,
    }
    assert {key: data[key] for key in expected} == expected
    flavor = data["flavor"]
    assert (flavor["nova_object.name"], flavor["nova_object.version"]) == ("FlavorPayload", "1.4")
    assert flavor["nova_object.data"]["memory_mb"] == 512


def test_a_failure_tells_why(
    notifier: Notifier, context: RequestContext, instance: Instance
) -> None:
    notifier.snapshot(context, instance, IMAGE, Phase.ERROR, failure())
    ((_, message, priority),) = messages(notifier)
    assert (message["event_type"], priority) == ("instance.snapshot.error", "ERROR")
    fault = message["payload"]["nova_object.data"]["fault"]
    assert fault["nova_object.name"] == "ExceptionPayload"
    data = fault["nova_object.data"]
    assert "SnapshotInterrupted" in data.pop("traceback")
    assert data == {
        "module_name": __name__,
        "function_name": "failure",
        "exception": "SnapshotInterrupted",
        "exception_message": (
            f"The compute service of host {HOST} was restarted during image_uploading."
        ),
    }


@pytest.mark.parametrize("notifier", ["unversioned"], indirect=True)
def test_an_unversioned_notification(
    notifier: Notifier, context: RequestContext, instance: Instance
) -> None:
    notifier.snapshot(context, instance, IMAGE, Phase.END)
    ((_, message, priority),) = messages(notifier)
    assert (message["event_type"], priority) == ("compute.instance.snapshot.end", "INFO")
    assert message["publisher_id"] == f"compute.{HOST}"
    expected = {
        "instance_id": instance.uuid,
        "tenant_id": PROJECT,
        "host": HOST,
        "memory_mb": 512,
        "disk_gb": 1,
        "state": "active",
        "state_description": "image_snapshot",
        "launched_at": "2026-01-02 03:04:05",
        "deleted_at": "",
        "image_meta": {"os_distro": "debian"},
    }
    assert {key: message["payload"][key] for key in expected} == expected


@pytest.mark.parametrize("notifier", ["both"], indirect=True)
def test_both_in_their_order(
    notifier: Notifier, context: RequestContext, instance: Instance
) -> None:
    for phase in (Phase.START, Phase.END):
        notifier.snapshot(context, instance, IMAGE, phase)
    assert [message["event_type"] for _, message, _ in messages(notifier)] == [
        "instance.snapshot.start",
        "compute.instance.snapshot.start",
        "instance.snapshot.end",
        "compute.instance.snapshot.end",
    ]


@pytest.mark.parametrize("notifier", ["both"], indirect=True)
def test_nobody_can_act_as_the_user_with_it(
    notifier: Notifier, database: Any, instance: Instance
) -> None:
    context = make_context(database, auth_token="gAAAA-secret", service_catalog=[{"type": "x"}])
    notifier.snapshot(context, instance, IMAGE, Phase.ERROR, failure())
    sent = messages(notifier)
    assert [each[0]["request_id"] for each in sent] == [context.request_id] * 2
    assert "gAAAA-secret" not in json.dumps([[each[0], each[1]] for each in sent])


@pytest.mark.parametrize(("form", "driver"), [("none", "test"), ("both", None)])
def test_nothing_is_sent_that_nobody_asked_for(
    conf: cfg.ConfigOpts, form: str, driver: str | None
) -> None:
    with_form(conf, form, driver)
    assert isinstance(notifications.make(conf), NoNotifications)


class Stuck:
    """An oslo.messaging notifier whose broker does not answer."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.sent: list[str] = []

    def info(self, context: RequestContext, event: str, payload: Any) -> None:
        self.entered.set()
        assert self.go_on.wait(SOON)
        self.sent.append(event)


def test_a_broker_that_does_not_answer_holds_nothing_up(
    context: RequestContext, instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    stuck = Stuck()
    notifier = Notifications(stuck, None, length=2)
    began = time.monotonic()
    notifier.snapshot(context, instance, IMAGE, Phase.START)
    assert stuck.entered.wait(SOON)
    with caplog.at_level(logging.WARNING):
        for _ in range(5):
            notifier.snapshot(context, instance, IMAGE, Phase.END)
        notifier.close(0.1)
    assert time.monotonic() - began < SOON / 2
    assert caplog.text.count("is not sent: too many wait") == 3
    assert "notifications were not sent" in caplog.text
    stuck.go_on.set()
    notifier.close(SOON)
    assert stuck.sent == [
        "instance.snapshot.start",
        "instance.snapshot.end",
        "instance.snapshot.end",
    ]


class Broken:
    """One that fails the first time."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.failed = False

    def info(self, context: RequestContext, event: str, payload: Any) -> None:
        if not self.failed:
            self.failed = True
            raise ConnectionError("no broker")
        self.sent.append(event)


def test_one_that_cannot_be_sent_is_logged_and_the_next_goes_out(
    context: RequestContext, instance: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    broken = Broken()
    notifier = Notifications(broken, None)
    notifier.snapshot(context, instance, IMAGE, Phase.START)
    notifier.snapshot(context, instance, IMAGE, Phase.END)
    notifier.close(SOON)
    assert broken.sent == ["instance.snapshot.end"]
    assert "A notification could not be sent" in caplog.text


def test_one_that_cannot_be_made_is_logged(
    context: RequestContext, caplog: pytest.LogCaptureFixture
) -> None:
    notifier = Notifications(Broken(), None)
    unfinished: Any = Instance.__new__(Instance)
    unfinished.uuid = "u"
    notifier.snapshot(context, unfinished, IMAGE, Phase.START)
    notifier.close(SOON)
    assert "instance.snapshot.start of instance u cannot be sent" in caplog.text
