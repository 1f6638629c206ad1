# SPDX-License-Identifier: Apache-2.0
"""The end of a console's output."""

import pytest

from nova_snap.compute.console import tail


@pytest.mark.parametrize(
    ("text", "length", "expected"),
    [
        ("a\nb\nc\n", None, "a\nb\nc\n"),
        ("a\nb\nc\n", -1, "a\nb\nc\n"),
        ("a\nb\nc\n", 0, ""),
        ("a\nb\nc\n", 2, "c\n"),
        ("a\nb\nc", 2, "b\nc"),
        ("a\nb\n", 9, "a\nb\n"),
        ("a\n\n", 2, "\n"),
        ("", 5, ""),
    ],
)
def test_the_last_lines(text: str, length: int | None, expected: str) -> None:
    assert tail(text, length) == expected
