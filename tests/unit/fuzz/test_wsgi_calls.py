# SPDX-License-Identifier: Apache-2.0
"""What the fuzz of the API sees in an answer."""

import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from tests.fuzz import wsgi_calls
from tests.fuzz.parts import LogWatch
from tests.fuzz.target import Finding


def look(asked: str, message: str) -> None:
    """At a fault with this message, which answers a request for ``asked``."""

    def application(_environ: Any, start_response: Callable[..., Any]) -> Iterable[bytes]:
        headers = {
            "content-type": "application/json",
            "x-openstack-request-id": f"req-{uuid.uuid4()}",
        }
        start_response("400 Bad Request", list(headers.items()))
        return [json.dumps({"badRequest": {"message": message}}).encode()]

    made = wsgi_calls.call("GET", f"/v2.1/{asked}")
    wsgi_calls.check(made, wsgi_calls.Answer(application, {}), LogWatch(), frozenset())


def test_what_was_sent_may_be_said() -> None:
    look("x.py", "x.py is no name, and another x.py neither")


@pytest.mark.parametrize(
    "message",
    ["Traceback (most recent call last)", "x.py is no name: Traceback (most recent call last)"],
    ids=["alone", "behind what was sent"],
)
def test_what_is_inside_is_found(message: str) -> None:
    with pytest.raises(Finding, match="internals in a fault"):
        look("x.py", message)
