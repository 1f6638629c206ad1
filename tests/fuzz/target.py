# SPDX-License-Identifier: Apache-2.0
"""What every fuzzed thing looks like to the engines."""

import abc
import random
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import ClassVar

from tests.fuzz import mutation


class Finding(Exception):
    """The product did what it must not do, without an exception of its own.

    :param what: is wrong, in words that are the same for each input with the same cause.
    :param detail: of this input.
    """

    def __init__(self, what: str, detail: str = "") -> None:
        super().__init__(f"{what}: {detail}" if detail else what)
        self.what = what


class Target(abc.ABC):
    """:cvar bound: seconds that one input may take; whatever takes longer hangs.

    :cvar renew_after: how many inputs meet the same state (database, service) one after the other.
    :cvar guided: pure code, fast enough to be traced: coverage may guide the choice of inputs.
    :cvar each: how many executions one input stands for.
    """

    bound: ClassVar[float] = 30.0
    renew_after: ClassVar[int] = 0
    guided: ClassVar[bool] = False
    each: ClassVar[int] = 1

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @abc.abstractmethod
    def seeds(self) -> Sequence[bytes]:
        """Inputs to begin with: what is right, and what was wrong once."""

    @abc.abstractmethod
    def run(self, data: bytes) -> Hashable:
        """Give it to the product.

        :returns: what became of it, coarsely: an input with an outcome that is new is kept, and
            changed further.
        :raises Finding: or whatever else the product must not do.
        """

    def mutate(self, data: bytes, other: bytes, dice: random.Random) -> bytes:
        """Another input like it.

        :param other: an input to take parts from.
        """
        return mutation.of_bytes(data, other, dice)

    def renew(self) -> None:  # noqa: B027 - most have no state
        """Begin with a fresh state."""

    def close(self) -> None:  # noqa: B027
        """Nothing will be run any more."""
