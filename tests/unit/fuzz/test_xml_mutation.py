# SPDX-License-Identifier: Apache-2.0
"""Changed XML does not grow beyond what is run."""

import random
from collections.abc import Sequence
from typing import Any

from lxml import etree

from tests.fuzz import xml_mutation
from tests.fuzz.targets import domain


class Multiplying(random.Random):
    """Copies as often as it may, a disk first and then all of the devices."""

    def __init__(self) -> None:
        super().__init__(1)
        self._tags = ["disk", "devices", "devices"]

    def random(self) -> float:
        return 1.0

    def randrange(self, *_arguments: int) -> int:
        return 9

    def choice(self, seq: Sequence[Any]) -> Any:
        if isinstance(seq[0], etree._Element):
            tag = self._tags.pop(0)
            return next(element for element in seq if element.tag == tag)
        return max(seq)


def test_copies_of_copies_are_bounded() -> None:
    """They took the worker's memory before any of it was run."""
    seed = next(data for data in domain.seeds() if b"<disk" in data and len(data) > 2000)
    changed = xml_mutation.of_xml(seed, seed, Multiplying())
    assert changed.count(b"<disk") > 300
    assert len(changed) < 3 * 4 << 20
