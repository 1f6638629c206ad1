# SPDX-License-Identifier: Apache-2.0
"""Messages while there is no broker; with one they are among the integration tests."""

import time
from collections.abc import Iterator

import oslo_messaging
import pytest
from oslo_config import cfg

from nova_snap import exception
from nova_snap.compute import rpc, rpcapi
from nova_snap.context import RequestContext
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
