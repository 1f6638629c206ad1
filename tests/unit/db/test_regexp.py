# SPDX-License-Identifier: Apache-2.0
"""Regular expressions for SQLite: as Python has them, in time that has a bound."""

import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_snap.db import regexp

NAME = "a" * 254 + "!"
# One name, on a machine that does much else. Python's re would need longer than there are years.
SECONDS = 20

PARTS = st.sampled_from(
    [
        *(
            "a",
            "b",
            "-",
            "1",
            ".",
            r"\d",
            r"\w",
            r"\s",
            "[ab]",
            "[^a]",
            "[a-c1-3]",
            "^",
            "$",
            r"\b",
        ),
        *("a*", "b+", "a?", ".*", ".*?", "a{2}", "a{1,3}", "(ab)+", "(a|b)*", "(?:a|ab)", "(a*b)?"),
        *("a|b", "(?i:A)", r"\B", "(a+)+", "(?:)", "(?:){3}", "[^-]*"),
        *("[A-\uffff]", "[^!-\u0fff]"),
    ]
)


@settings(max_examples=400, deadline=None, database=None, derandomize=True)
@given(
    st.lists(PARTS, min_size=1, max_size=5).map("".join),
    st.lists(st.text("abc1- A\n", max_size=8), min_size=1, max_size=6),
    st.booleans(),
)
def test_the_same_is_found_as_by_python(expression: str, texts: list[str], fold: bool) -> None:
    expression = f"(?i){expression}" if fold else expression
    try:
        search = regexp.compiled(expression)
    except regexp.UnsupportedExpression:
        return
    for text in texts:
        assert search(text) is (re.search(expression, text) is not None), (expression, text)


@pytest.mark.parametrize(
    "expression",
    [
        "(a+)+$", "^(a|a)*$", "^(a|aa)+$", "a*a*a*a*a*b", "(.*)*x", "(a?){100}a{100}b",
        "(a|a)" * 40 + "b", "(?i)(A+)+$", "(?:(?:a*)*)*b", "([a-z]+)*\\d",
    ],
)  # fmt: skip
def test_what_would_take_for_ever_ends(expression: str) -> None:
    began = time.monotonic()
    assert not regexp.compiled(expression)(NAME)
    assert time.monotonic() - began < SECONDS


def test_a_class_of_very_many_characters_takes_no_time() -> None:
    """Python's re goes through each character of each class: this one takes it seconds."""
    began = time.thread_time()
    search = regexp.compiled("(?i)" + "[!-\uffff]" * 300)
    assert search("a" * 300)
    assert not search("a" * 299)
    assert time.thread_time() - began < 1


@pytest.mark.parametrize("expression", ["[a", "a{99999999999999999999}", "(" * 5000 + ")" * 5000])
def test_what_means_nothing(expression: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        regexp.check(expression)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (r"(a+)+\1", "groupref"),
        ("(a+)+(?=b)", "assert"),
        ("(a+){900}", "too long"),
        ("(?:){2000000000}", "more than 1000"),
        *((f"(?:(?:{each}){{1000}}){{1000}}", "too long|assert") for each in (r"\b", "^", "(?=)")),
        (".*(?:(?=)(?=)(?=)){1000}!", "too long|assert"),
        ("(?:(?:(?>^){1000}){1000}){1000}", "too long|atomic"),
        ("(" * 300 + "a+" + ")*" * 300, "too long|too deep"),
        ("(?a)(a+)+", "flags"),
        (r"(a|bc)(?<=\1)", "fixed-width"),
    ],
)
def test_what_cannot_be_bounded_is_refused(expression: str, said: str) -> None:
    with pytest.raises(regexp.UnsupportedExpression, match=said):
        regexp.compiled(expression)


@pytest.mark.parametrize(("found", "count"), [(True, 300), (False, 299)])
def test_a_long_repetition_is_the_automatons(found: bool, count: int) -> None:
    assert regexp.compiled("^(?:[ab]{3}){100}$")("ab" * 150 if found else "a" * count) is found


@pytest.mark.parametrize(
    "expression", [r"(we)b-\1*", "^web(?=-[0-9])", "(?<!x)web", "we+b", "(?P<n>w)"]
)
def test_what_has_one_choice_is_pythons(expression: str) -> None:
    assert regexp.compiled(expression)("web-1we") is (re.search(expression, "web-1we") is not None)
