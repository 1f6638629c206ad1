# SPDX-License-Identifier: Apache-2.0
"""Faults as a command line has them."""

import pytest

from tests.stand_ins import faults


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("PUT images/*/file refuse 503", faults.Refuse(503)),
        ("PUT images/*/file hangup 1000", faults.HangUp(1000)),
        ("PUT images/*/file stall body 1000", faults.Stall("body", 1000)),
        ("PUT images/*/file half", faults.Truncate(announced=False)),
        ('PUT images/*/file lie {"status":"queued"}', faults.Lie({"status": "queued"})),
        ("put /images/*/file vanish", faults.Vanish()),
    ],
)
def test_a_rule(text: str, fault: faults.Fault) -> None:
    rule = faults.parse(text)
    assert rule.fault == fault
    assert rule.takes("PUT", "images/one/file")
    assert not rule.takes("GET", "images/one/file")
    assert not rule.takes("PUT", "images/one/two/file")


def test_which_requests_meet_it() -> None:
    rule = faults.parse("GET images/* pretend nth=2 times=2")
    assert [rule.takes("GET", "images/one") for _ in range(5)] == [False, True, True, False, False]
    assert (rule.hits, rule.met.is_set()) == (2, True)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "PUT images",
        "PUT images explode",
        "PUT images refuse",
        "PUT images refuse x",
        "GET a lie {",
    ],
)
def test_what_is_none(text: str) -> None:
    with pytest.raises(ValueError, match="is no fault: METHOD PATH FAULT"):
        faults.parse(text)
