# SPDX-License-Identifier: Apache-2.0
"""Messages while there is no broker; with one they are among the integration tests."""

import contextlib
import logging
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent import futures

import oslo_messaging
import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import rpc, rpcapi
from nova_snap.context import RequestContext
from tests.fixtures.logs import ours
from tests.fixtures.service import make_instance
from tests.fixtures.service_process import free_port

SOON = 20


@pytest.fixture
def transport(conf: cfg.ConfigOpts) -> Iterator[oslo_messaging.Transport]:
    """To a RabbitMQ that is down."""
    conf.set_override("transport_url", f"rabbit://guest:guest@127.0.0.1:{free_port()}/")
    conf.set_override("send_retries", 0, "rpc")
    made = rpc.get_transport(conf)
    yield made
    rpc.close(made)


@pytest.mark.parametrize("password", ["s3c/ret", "s3c#ret", "s3c?ret", "s3c[ret"])
def test_a_password_that_is_not_quoted_is_not_shown(conf: cfg.ConfigOpts, password: str) -> None:
    conf.set_override("transport_url", f"rabbit://nova_snap:{password}@127.0.0.1:5672/")
    with pytest.raises(exception.NovaSnapError, match="%2F for /") as caught:
        rpc.get_transport(conf)
    assert "s3c" not in "".join(traceback.format_exception(caught.value))


def test_a_cast_without_a_broker(
    conf: cfg.ConfigOpts, transport: oslo_messaging.Transport, context: RequestContext
) -> None:
    """The first connection of a process fails with another error than one that breaks."""
    hosts = rpcapi.ComputeAPI(conf, transport)
    with pytest.raises(exception.MessagingUnavailable, match="refused"):
        hosts.snapshot_instance(context, make_instance(context), "image")


def test_a_call_without_a_broker(
    conf: cfg.ConfigOpts, transport: oslo_messaging.Transport, context: RequestContext
) -> None:
    """The library makes a queue for the answer first, and waits for the broker without a bound."""
    conf.set_override("call_timeout", 1, "rpc")
    hosts = rpcapi.ComputeAPI(conf, transport)
    with pytest.raises(exception.MessagingUnavailable, match="no answer within 1 s"):
        hosts.get_console_output(context, make_instance(context), None)
    began = time.monotonic()
    rpc.close(transport)
    assert time.monotonic() - began < SOON


def test_a_broker_that_has_more_to_say_as_it_is_left(
    transport: oslo_messaging.Transport,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It was paused, and returns a message that was given up: the process ends all the same."""

    def clean_up() -> None:
        raise oslo_messaging.MessageUndeliverable(None, "nova", "compute-1", "message")

    monkeypatch.setattr(transport, "cleanup", clean_up)
    rpc.close(transport)
    assert ours(caplog) == ["Closing the connections to the broker: MessageUndeliverable()"]


def test_calls_that_hang_do_not_pile_up(
    conf: cfg.ConfigOpts,
    transport: oslo_messaging.Transport,
    context: RequestContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each keeps a thread until the broker is back: the next one is refused at once."""
    conf.set_override("call_timeout", 1, "rpc")
    monkeypatch.setattr(rpcapi, "_MOST_HANGING", 2)
    hosts = rpcapi.ComputeAPI(conf, transport)
    instance = make_instance(context)
    for _ in range(2):
        with pytest.raises(exception.MessagingUnavailable, match="no answer within 1 s"):
            hosts.get_console_output(context, instance, None)
    with pytest.raises(exception.MessagingUnavailable, match="2 calls have not come back"):
        hosts.get_console_output(context, instance, None)


class TestCalls:
    def test_one_that_comes_back_makes_room(self) -> None:
        calls, back, ended = rpc.Calls(1), threading.Event(), threading.Event()

        def hang() -> None:
            assert back.wait(SOON)

        with pytest.raises(futures.TimeoutError):
            calls.within(0.01, hang)
        with pytest.raises(rpc.TooManyCalls, match="1 calls"):
            calls.within(SOON, ended.set)
        assert not ended.is_set()
        back.set()
        until = time.monotonic() + SOON
        while not ended.is_set():
            assert time.monotonic() < until
            with contextlib.suppress(rpc.TooManyCalls):
                calls.within(SOON, ended.set)

    def test_the_answer_and_the_error_are_the_calls_own(self) -> None:
        def fail() -> None:
            raise ValueError("a mistake")

        calls = rpc.Calls(1)
        for _ in range(3):
            assert calls.within(SOON, lambda: 42) == 42
            with pytest.raises(ValueError, match="a mistake"):
                calls.within(SOON, fail)


def test_the_password_of_the_broker_is_in_no_log_and_no_error(
    conf: cfg.ConfigOpts, context: RequestContext, caplog: pytest.LogCaptureFixture
) -> None:
    password, token = "password-of-the-broker", "token-of-the-user"
    conf.set_override("transport_url", f"rabbit://nova_snap:{password}@127.0.0.1:{free_port()}/v")
    conf.set_override("send_retries", 0, "rpc")
    context.auth_token = token
    caplog.set_level(logging.DEBUG)
    transport = rpc.get_transport(conf)
    with pytest.raises(exception.MessagingUnavailable) as caught:
        rpcapi.ComputeAPI(conf, transport).snapshot_instance(
            context, make_instance(context), "image"
        )
    transport.cleanup()
    told = "".join(traceback.format_exception(caught.value)) + caplog.text
    assert "refused" in told
    assert password not in told
    assert token not in told
