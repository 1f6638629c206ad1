# SPDX-License-Identifier: Apache-2.0
"""The lists of Tempest's tests, and the verdict on a run."""

from __future__ import annotations

import re
from pathlib import Path

from tests.tempest import lists
from tests.tempest.lists import Verdict


def test_entries_have_comments(tmp_path: Path) -> None:
    path = tmp_path / "list.txt"
    path.write_text("# about the list\n\none\n two # why\n")
    assert lists.entries(path) == {"one": "", "two": "why"}


def test_whatever_is_left_out_has_a_reason() -> None:
    excluded = lists.entries(lists.EXCLUDED)
    assert excluded
    assert [entry for entry, reason in excluded.items() if not reason] == []


def test_what_passes_is_in_scope_and_not_left_out() -> None:
    scope = [re.compile(entry) for entry in lists.entries(lists.SCOPE)]
    excluded = [re.compile(entry) for entry in lists.entries(lists.EXCLUDED)]
    passing = list(lists.entries(lists.PASSING))
    assert passing == sorted(passing)
    for name in passing:
        assert any(entry.search(name) for entry in scope), f"{name} is not in scope"
        assert not any(entry.search(name) for entry in excluded), f"{name} is left out"


def test_the_short_selection_is_of_what_passes() -> None:
    short = set(lists.entries(lists.SHORT))
    assert short
    assert short < set(lists.entries(lists.PASSING))


def test_a_name_is_matched_as_a_whole() -> None:
    (line,) = lists.exactly(["a.b.test_one"]).splitlines()
    pattern = re.compile(line)
    assert pattern.search("a.b.test_one[id-1,smoke]")
    assert pattern.search("a.b.test_one")
    for other in ("a.b.test_one_more[id-2]", "x.a.b.test_one", "axb.test_one"):
        assert not pattern.search(other)


def test_a_run_as_it_should_be() -> None:
    verdict = Verdict.of({"one": "success", "two": "success"}, ["one", "two"])
    assert verdict.good
    assert str(verdict) == "2 passed as they should"


def test_a_run_of_nothing_is_not_good() -> None:
    assert not Verdict.of({}, []).good


def test_everything_else_is_told() -> None:
    results = {"one": "success", "two": "skip", "three": "success", "setUpClass (four)": "fail"}
    verdict = Verdict.of(results, ["one", "two", "five"])
    assert not verdict.good
    assert str(verdict).splitlines() == [
        "1 passed as they should",
        "skip: two",
        "fail: setUpClass (four)",
        "did not run: five",
        "is on no list: three",
        "is on no list: setUpClass (four)",
    ]
