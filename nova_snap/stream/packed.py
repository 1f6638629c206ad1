# SPDX-License-Identifier: Apache-2.0
"""Where clusters lie in a compressed qcow2 image.

First those that are stored as they are, one after the other, then the compressed ones, byte after
byte. So a compressed cluster may begin in one cluster of the file and end in the next, and many of
them share one: its refcount says how many.
"""

import sys
from array import array
from collections.abc import Iterator
from typing import Final

from nova_snap.stream.clusters import Runs
from nova_snap.stream.qcow2 import COPIED, SECTOR, Entries, ones

_COMPRESSED: Final = 1 << 62
_REFCOUNTS_AT_ONCE: Final = 32 << 10


class Packed:
    """Placement of clusters whose stored lengths are known only now.

    It takes 4 bytes for each cluster that is stored, and 2 for each cluster of the file.

    :ivar runs: the numbers of the guest's clusters that are stored.
    :ivar verbatim: those of them that are stored as they are.
    :ivar packed: bytes of the compressed ones, together.
    """

    def __init__(self, cluster_size: int) -> None:
        self.runs = Runs()
        self.verbatim = Runs()
        self.packed = 0
        self._cluster_size = cluster_size
        self._lengths = array("I")
        # How many compressed clusters touch each cluster of the packed area. 16 bits are enough:
        # a frame of zstd is never shorter than 10 bytes, so that at most 6,500 begin in 64 KiB,
        # and larger clusters have longer ones: 73 bytes for 2 MiB.
        self._touched = array("H")

    @property
    def host_clusters(self) -> int:
        return self.verbatim.total + len(self._touched)

    def add(self, number: int, length: int) -> None:
        """Place a cluster of the guest.

        :param number: larger than the ones before.
        :param length: how many bytes are stored; the whole cluster's for one stored as it is.
        """
        self.runs.add(number)
        self._lengths.append(length)
        if length == self._cluster_size:
            self.verbatim.add(number)
            return
        first = self.packed // self._cluster_size
        self.packed += length
        last = (self.packed - 1) // self._cluster_size
        while len(self._touched) <= last:
            self._touched.append(0)
        self._touched[first] += 1
        if last > first:
            self._touched[last] += 1

    @property
    def padding(self) -> int:
        """Bytes between the last compressed cluster and the end of the file."""
        return -self.packed % self._cluster_size

    def entries(self, offset: int) -> Entries:
        size = self._cluster_size
        # A descriptor is: offset in bytes; from bit ``shift`` on, how many sectors besides the one
        # that the offset is in; the flag.
        shift = 62 - (size.bit_length() - 1 - 8)
        whole = offset | COPIED
        packed = offset + self.verbatim.total * size
        index = 0

        def take(count: int) -> bytes:
            nonlocal whole, packed, index
            taken = array("Q")
            for length in self._lengths[index : index + count]:
                if length == size:
                    taken.append(whole)
                    whole += size
                else:
                    sectors = (packed + length - 1) // SECTOR - packed // SECTOR
                    taken.append(_COMPRESSED | sectors << shift | packed)
                    packed += length
            index += count
            return _big_endian(taken)

        return take

    def refcounts(self) -> Iterator[bytes]:
        yield from ones(self.verbatim.total)
        for begin in range(0, len(self._touched), _REFCOUNTS_AT_ONCE):
            yield _big_endian(self._touched[begin : begin + _REFCOUNTS_AT_ONCE])


def _big_endian(numbers: "array[int]") -> bytes:
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers.tobytes()
