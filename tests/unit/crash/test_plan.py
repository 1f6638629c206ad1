# SPDX-License-Identifier: Apache-2.0
"""The crash matrix aims at every step of a method before it aims at one again."""

import collections
import random

from tests.crash.plan import Aims, Plan, Point

STEPS = (
    "request recorded", "image: create", "instance: task_state image_snapshot_pending",
    "journal: saving", "libvirt managedSave", "start of qemu-nbd", "image: next bytes",
    "image: next bytes", "event ends",
)  # fmt: skip


def trace(*steps: str) -> list[Point]:
    """Of a snapshot, one step after the other."""
    seen: collections.Counter[str] = collections.Counter()
    made = []
    for step in (*steps, "action ends"):
        seen[step] += 1
        made += [("before", step, seen[step]), ("after", step, seen[step])]
    return made


def plan(*steps: str, aims: Aims | None = None, seed: int = 1) -> Plan:
    return Plan(trace(*steps), random.Random(seed), collections.Counter() if aims is None else aims)


def test_every_step_has_its_turn_before_any_has_its_second() -> None:
    for seed in range(20):
        made = plan(*STEPS, seed=seed)
        assert made.steps == {*STEPS, "action ends"}
        count = len(made.steps)
        first, second = ([made.next() for _ in range(count)] for _ in range(2))
        assert {point[1] for point in first} == made.steps
        assert {point[1] for point in second} == made.steps
        # After a step there is something to be put right; that of the last comes too late.
        assert {when for when, label, _nth in first if label != "action ends"} == {"after"}
        assert {when for when, _label, _nth in second} == {"before"}


def test_few_kills_are_of_every_sort() -> None:
    for seed in range(20):
        made = plan(*STEPS, seed=seed)
        labels = [made.next()[1] for _ in range(3)]
        assert labels[0].startswith(("libvirt ", "start of "))
        assert labels[1].startswith(("image: ", "journal: "))
        assert not labels[2].startswith(("libvirt ", "start of ", "image: ", "journal: "))


def test_scenarios_of_a_method_share_the_steps() -> None:
    aims: Aims = collections.Counter()
    one = plan(*STEPS, aims=aims)
    known = {one.next()[1] for _ in range(len(one.steps))}
    other = plan(*STEPS, "image: delete", aims=aims)
    assert other.next()[1] == "image: delete"
    assert other.next()[1] in known


def test_only_these_steps() -> None:
    made = plan(*STEPS)
    chosen = [made.next({"event ends", "journal: saving"}) for _ in range(4)]
    assert {(when, label) for when, label, _nth in chosen} == {
        (when, label) for when in ("before", "after") for label in ("event ends", "journal: saving")
    }
