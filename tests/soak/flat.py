# SPDX-License-Identifier: Apache-2.0
"""Whether a series is flat: the median at its end against the median after its warm-up."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Mapping, Sequence

WINDOW = 30
"""How many samples a median is of, in a series of 120 or more; a quarter of a shorter one."""

_LEAST_WINDOW = 15
_MIB = 1 << 20


class TooShort(Exception):
    """A series that says nothing about growth."""

    def __init__(self, count: int) -> None:
        least = 4 * _LEAST_WINDOW
        super().__init__(f"{count} samples do not show whether anything grows: {least} do")


@dataclasses.dataclass(frozen=True)
class Rule:
    """What a series may do.

    :ivar title: for people.
    :ivar growth: by how much the median at the end may be above the one after the warm-up;
        ``None`` for what may grow, and is only reported.
    :ivar most: what no sample may be above, from the first one on.
    :ivar least: what no sample of the last window may be below.
    :ivar unit: what a sample is divided by to be printed, such as the bytes of a MiB.
    """

    name: str
    title: str
    growth: float | None = 0.0
    most: float | None = None
    least: float | None = None
    unit: int = 1

    @classmethod
    def none(cls, name: str, title: str) -> Rule:
        """There must be nothing, ever."""
        return cls(name, title, most=0.0)

    @classmethod
    def mib(cls, name: str, title: str, growth: float | None) -> Rule:
        """Bytes that may grow by so many MiB."""
        return cls(name, title, None if growth is None else growth * _MIB, unit=_MIB)


@dataclasses.dataclass(frozen=True)
class Verdict:
    """What a series did.

    :ivar first: the median after the warm-up.
    :ivar last: the median at the end.
    :ivar problem: empty if it is flat.
    """

    rule: Rule
    first: float
    last: float
    least: float
    most: float
    problem: str

    @property
    def grown(self) -> float:
        """By how much; less than 0 if it has shrunk."""
        return self.last - self.first


def windows(count: int) -> tuple[slice, slice]:
    """Where the two medians are taken: after a warm-up as long as a window, and at the end.

    :param count: of the samples.
    :raises TooShort: if they are too few.
    """
    size = min(WINDOW, count // 4)
    if size < _LEAST_WINDOW:
        raise TooShort(count)
    return slice(size, 2 * size), slice(count - size, count)


def judge(rule: Rule, values: Sequence[float]) -> Verdict:
    """Whether the series is what the rule wants.

    A single high sample is no growth: one thing may still be going on when it is taken. A step or
    a slope that half of the last window is above is.

    :raises TooShort: if there are too few samples.
    """
    early, late = (values[window] for window in windows(len(values)))
    first, last = statistics.median(early), statistics.median(late)
    problem = ""
    if rule.growth is not None and last - first > rule.growth:
        grown = (last - first) / rule.unit
        problem = f"has grown by {grown:.4g}, allowed is {rule.growth / rule.unit:.4g}"
    if rule.most is not None and max(values) > rule.most:
        at = values.index(max(values)) + 1
        problem = (
            f"is {max(values) / rule.unit:.4g} at {at}, allowed is {rule.most / rule.unit:.4g}"
        )
    if rule.least is not None and min(late) < rule.least:
        problem = (
            f"is {min(late) / rule.unit:.4g} at the end, least is {rule.least / rule.unit:.4g}"
        )
    return Verdict(rule, first, last, min(values), max(values), problem)


def judge_all(rules: Sequence[Rule], samples: Sequence[Mapping[str, float]]) -> list[Verdict]:
    """A verdict on every rule's series.

    :param samples: in the order in which they were taken, each with a value for each rule.
    :raises TooShort: if there are too few samples.
    """
    return [judge(rule, [sample[rule.name] for sample in samples]) for rule in rules]


def table(verdicts: Sequence[Verdict], count: int) -> str:
    """For people.

    :param count: of the samples.
    """
    early, late = windows(count)
    spans = [f"{window.start + 1}..{window.stop}" for window in (early, late)]
    width = max(len(verdict.rule.title) for verdict in verdicts)
    head = f"{'':{width}} {spans[0]:>10} {spans[1]:>10} {'growth':>9} {'allowed':>8}"
    lines = [f"{head} {'least':>9} {'most':>9}"]
    for each in verdicts:
        unit, allowed = each.rule.unit, each.rule.growth
        may = "any" if allowed is None else f"{allowed / unit:.4g}"
        lines.append(
            f"{each.rule.title:{width}} {_number(each.first, unit):>10} "
            f"{_number(each.last, unit):>10} {_number(each.grown, unit):>9} {may:>8} "
            f"{_number(each.least, unit):>9} {_number(each.most, unit):>9}"
            f"  {'GROWS' if each.problem else ''}".rstrip()
        )
    return "\n".join(lines)


def _number(value: float, unit: int) -> str:
    return f"{value:g}" if unit == 1 else f"{value / unit:.1f}"
