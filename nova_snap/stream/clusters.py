# SPDX-License-Identifier: Apache-2.0
"""Which clusters of a disk an image holds, kept in 16 bytes for each run of them."""

from array import array
from collections.abc import Iterable, Iterator

from nova_snap.stream.image_errors import ExtentMapInvalid
from nova_snap.stream.source import Extent


class Runs:
    """Ascending numbers, as runs of neighbours.

    :ivar total: how many numbers there are.
    """

    def __init__(self) -> None:
        self.total = 0
        self._first = array("Q")
        self._count = array("Q")

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Every run as (first, count)."""
        return zip(self._first, self._count, strict=True)

    def __len__(self) -> int:
        """How many runs there are."""
        return len(self._first)

    def add(self, first: int, count: int = 1) -> None:
        """Add ``count`` numbers from ``first`` on, which is not below the last run's first one.

        Numbers that are there already are not added again.
        """
        if self._first:
            known = self._first[-1] + self._count[-1] - first
            if known >= 0:
                more = max(count - known, 0)
                self._count[-1] += more
                self.total += more
                return
        self._first.append(first)
        self._count.append(count)
        self.total += count

    def split(self, size: int) -> Iterator[tuple[int, int, int]]:
        """The runs cut at multiples of ``size``, as (group, first within the group, count)."""
        for first, count in self:
            while count:
                group, within = divmod(first, size)
                part = min(count, size - within)
                yield group, within, part
                first += part
                count -= part

    def groups(self, size: int) -> "Runs":
        """The numbers of the groups of ``size`` that any of these numbers is in."""
        groups = Runs()
        for first, count in self:
            group = first // size
            groups.add(group, (first + count - 1) // size - group + 1)
        return groups

    def after(self, number: int) -> "Runs":
        """Those of the numbers that are larger."""
        found = Runs()
        for first, count in self:
            skipped = max(number + 1 - first, 0)
            if skipped < count:
                found.add(first + skipped, count - skipped)
        return found

    def sample(self, limit: int) -> Iterator[int]:
        """At most ``limit`` of the numbers, evenly spread."""
        wanted = min(limit, self.total)
        taken = passed = 0
        for first, count in self:
            while taken < wanted and (ordinal := taken * self.total // wanted) < passed + count:
                yield first + ordinal - passed
                taken += 1
            passed += count


def allocated(extents: Iterable[Extent], size: int, cluster_size: int) -> Runs:
    """The clusters that any data lies in.

    :param size: of the disk, in bytes.
    :param cluster_size: in bytes.
    :raises ExtentMapInvalid: unless the extents cover the disk in order and without gaps.
    """
    runs = Runs()
    end = 0
    for offset, length, data in extents:
        if offset != end or length <= 0:
            raise ExtentMapInvalid(
                offset=end, reason=f"the next extent is {length} bytes at {offset}"
            )
        end += length
        if data:
            first = offset // cluster_size
            runs.add(first, (end - 1) // cluster_size - first + 1)
    if end != size:
        raise ExtentMapInvalid(offset=end, reason=f"the map ends here, but the disk at {size}")
    return runs
