# SPDX-License-Identifier: Apache-2.0
"""What of a request's context travels, and what is logged of it."""

import json
import logging

import pytest
from oslo_log import formatters

from nova_snap.compute.rpc import RequestContextSerializer
from nova_snap.context import RequestContext

CATALOG = [{"type": "image", "name": "glance", "endpoints": []}]
GIVEN = "an-opaque-string"


def context() -> RequestContext:
    return RequestContext(
        auth_token=GIVEN,
        user_id="kim",
        user_name="Kim",
        user_domain_id="default",
        user_domain_name="Default",
        project_id="shop",
        project_name="The shop",
        project_domain_id="default",
        project_domain_name="Default",
        roles=["member", "reader"],
        global_request_id="req-11111111-2222-3333-4444-555555555555",
        service_catalog=CATALOG,
    )


def test_a_message_carries_all_that_the_other_side_needs() -> None:
    serializer = RequestContextSerializer()
    sent = context()
    message = json.loads(json.dumps(serializer.serialize_context(sent)))
    received = serializer.deserialize_context(message)
    assert received.auth_token == GIVEN
    assert received.service_catalog == CATALOG
    for name in (
        *("user_id", "user_name", "user_domain_id", "user_domain_name", "roles"),
        *("project_id", "project_name", "project_domain_id", "project_domain_name"),
        *("request_id", "global_id", "timestamp"),
    ):
        assert getattr(received, name) == getattr(sent, name), name


def test_the_services_own_housekeeping_is_still_for_the_user() -> None:
    own = context().elevated()
    assert (own.auth_token, own.service_catalog) == (GIVEN, CATALOG)
    assert own.is_admin


def test_a_log_in_json_has_neither_token_nor_catalog() -> None:
    context()
    record = logging.LogRecord("x", logging.INFO, "f", 1, "a line", (), None)
    line = formatters.JSONFormatter().format(record)
    assert json.loads(line)["context"]["project_name"] == "The shop"
    assert GIVEN not in line
    assert "service_catalog" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("timestamp", "yesterday"),
        ("timestamp", 7),
        ("roles", "admin"),
        ("roles", ["member", 7]),
        ("is_admin", "no"),
        ("service_catalog", [7]),
        ("user_id", {"a": "b"}),
        ("user_id", "x" * 256),
        ("project_id", "a\nb"),
        ("request_id", ["req-1"]),
        ("request_id", "req-1\r\nX: y"),
    ],
)
def test_what_a_message_must_not_say_is_not_believed(name: str, value: object) -> None:
    given = {**context().to_dict(), name: value}
    received = RequestContextSerializer().deserialize_context(given)
    assert getattr(received, name) != value
    assert not received.is_admin
    assert received.request_id.startswith("req-")
    assert received.elevated().is_admin
    # What else it says counts.
    assert received.user_name == "Kim"


@pytest.mark.parametrize("given", [None, 7, "x", [], {}])
def test_a_message_of_nobody(given: object) -> None:
    received = RequestContextSerializer().deserialize_context(given)  # type: ignore[arg-type]
    assert (received.user_id, received.project_id, received.roles) == (None, None, [])
    assert not received.is_admin
