# SPDX-License-Identifier: Apache-2.0
"""The judge of what has grown: what leaks is found, and what only moves is not."""

from __future__ import annotations

import random

import pytest

from tests.soak import flat

FILES = flat.Rule("files", "open files")
MEMORY = flat.Rule.mib("memory", "memory", growth=8)
MIB = 1 << 20


def problem(rule: flat.Rule, values: list[float]) -> str:
    return flat.judge(rule, values).problem


@pytest.mark.parametrize(
    ("count", "early", "late"),
    [
        (60, (15, 30), (45, 60)),
        (120, (30, 60), (90, 120)),
        (300, (30, 60), (270, 300)),
    ],
)
def test_windows(count: int, early: tuple[int, int], late: tuple[int, int]) -> None:
    assert flat.windows(count) == (slice(*early), slice(*late))


def test_too_few_samples_are_no_verdict() -> None:
    with pytest.raises(flat.TooShort, match="59 samples"):
        flat.judge(FILES, [40.0] * 59)


class TestFlat:
    def test_constant(self) -> None:
        assert problem(FILES, [40.0] * 300) == ""

    def test_what_it_warms_up_to(self) -> None:
        assert problem(FILES, [float(min(20 + number, 45)) for number in range(300)]) == ""

    def test_what_comes_and_goes(self) -> None:
        rng = random.Random(5)
        assert problem(FILES, [40.0 + (rng.random() < 0.2) for _ in range(300)]) == ""

    def test_a_single_peak_at_the_end(self) -> None:
        assert problem(FILES, [40.0] * 299 + [90.0]) == ""

    def test_what_shrinks(self) -> None:
        assert problem(FILES, [float(900 - number) for number in range(300)]) == ""

    def test_memory_that_moves(self) -> None:
        rng = random.Random(7)
        assert problem(MEMORY, [100 * MIB + rng.uniform(-6, 6) * MIB for _ in range(300)]) == ""


class TestGrowing:
    def test_one_for_each_snapshot(self) -> None:
        assert problem(FILES, [40.0 + number for number in range(300)]) == (
            "has grown by 240, allowed is 0"
        )

    @pytest.mark.parametrize("every", [15, 60, 120])
    def test_one_now_and_then(self, every: int) -> None:
        """As a leak of what only one kind of snapshot does."""
        assert problem(FILES, [40.0 + number // every for number in range(300)])

    def test_one_below_noise(self) -> None:
        rng = random.Random(9)
        values = [40.0 + number // 30 + (rng.random() < 0.3) for number in range(300)]
        assert problem(FILES, values)

    def test_a_step_that_stays(self) -> None:
        assert problem(FILES, [40.0] * 200 + [41.0] * 100) == "has grown by 1, allowed is 0"

    def test_memory(self) -> None:
        slope = [100 * MIB + number * 40.0 * 1024 for number in range(300)]
        assert problem(MEMORY, slope) == "has grown by 9.375, allowed is 8"

    def test_in_a_short_series(self) -> None:
        assert problem(FILES, [40.0 + number for number in range(60)])


class TestBounds:
    NONE = flat.Rule.none("journal", "journal")

    def test_nothing_ever(self) -> None:
        assert problem(self.NONE, [0.0] * 60) == ""

    def test_once_is_too_often(self) -> None:
        assert problem(self.NONE, [0.0, 1.0] + [0.0] * 58) == "is 1 at 2, allowed is 0"

    def test_what_must_be_there_at_the_end(self) -> None:
        """As the backups that a rotation keeps: none of them may be lost."""
        rule = flat.Rule("images", "images", None, most=2.0, least=2.0)
        assert problem(rule, [0.0, 1.0] + [2.0] * 58) == ""
        assert problem(rule, [0.0, 1.0] + [2.0] * 57 + [1.0]) == "is 1 at the end, least is 2"
        assert problem(rule, [0.0, 1.0, 3.0] + [2.0] * 57) == "is 3 at 3, allowed is 2"

    def test_what_is_history_may_grow(self) -> None:
        rule = flat.Rule.mib("database", "database", growth=None)
        assert problem(rule, [number * MIB for number in range(300)]) == ""


def test_the_table_names_what_grows() -> None:
    samples = [{"files": 40.0, "memory": 100.0 * MIB + number * MIB} for number in range(300)]
    verdicts = flat.judge_all([FILES, MEMORY], samples)
    assert [bool(verdict.problem) for verdict in verdicts] == [False, True]
    head, files, memory = flat.table(verdicts, len(samples)).splitlines()
    assert head.split()[:2] == ["31..60", "271..300"]
    assert files.split() == ["open", "files", "40", "40", "0", "0", "40", "40"]
    assert memory.split() == (["memory", "144.5", "384.5", "240.0", "8", "100.0", "399.0", "GROWS"])
