# SPDX-License-Identifier: Apache-2.0
"""The layout of an uncompressed qcow2 image: every table comes before the data.

::

    header | refcount table | refcount blocks | L1 table | L2 tables | data

Where everything lies, and the exact length of the file, follows from which clusters it holds.
"""

from collections.abc import Iterator

from nova_snap.stream.clusters import Runs
from nova_snap.stream.content import Piece
from nova_snap.stream.qcow2_format import (
    CLUSTER_SIZE,
    ZLIB,
    Geometry,
    Ramp,
    ones,
    refcount_clusters,
)


class Layout:
    """What stands where in a qcow2 file.

    :param virtual_size: in bytes; see :class:`Geometry`.
    :param runs: the numbers of the guest's clusters that are in the image. They lie in it as they
        are, one after the other.
    :param cluster_size: in bytes, a power of two from 64 KiB to 2 MiB.
    :raises LayoutUnsupported: if a table would be longer than QEMU opens.
    :ivar size: the exact length of the file, in bytes.
    :ivar tables_size: how much of it comes before the data.
    """

    def __init__(self, virtual_size: int, runs: Runs, *, cluster_size: int = CLUSTER_SIZE) -> None:
        self._geometry = geometry = Geometry(virtual_size, cluster_size)
        self._runs = runs
        self._l2 = runs.groups(geometry.per_table)
        others = 1 + geometry.l1_clusters + self._l2.total + runs.total
        self._blocks, self._refcount_tables = refcount_clusters(others, cluster_size)
        self._l1_offset = (1 + self._refcount_tables + self._blocks) * cluster_size
        self._l2_offset = self._l1_offset + geometry.l1_clusters * cluster_size
        self.tables_size = self._l2_offset + self._l2.total * cluster_size
        self.size = self.tables_size + runs.total * cluster_size

    def tables(self) -> Iterator[Piece]:
        """The first :attr:`tables_size` bytes of the file, in pieces of about a cluster."""
        geometry = self._geometry
        size = geometry.cluster_size
        header = geometry.header(
            l1_offset=self._l1_offset,
            refcount_offset=size,
            refcount_tables=self._refcount_tables,
            compression_type=ZLIB,
        )
        yield from geometry.padded(iter((header,)))
        first_block = (1 + self._refcount_tables) * size
        yield from geometry.padded(geometry.refcount_table(first_block, self._blocks))
        yield from geometry.padded(ones(self.size // size))
        yield from geometry.padded(geometry.l1_table(self._l2, self._l2_offset))
        take = Ramp(size, geometry.per_table).taking(self.tables_size)
        yield from geometry.l2_tables(self._runs, take)


def write_empty(path: str, virtual_size: int) -> None:
    """Make an existing file an image without content and without a backing file.

    It takes as long to start ``qemu-img`` as everything else that a guest's disk waits for.

    :param virtual_size: in bytes; see :class:`Geometry`.
    :raises LayoutUnsupported: if a table would be longer than QEMU opens.
    :raises OSError: if it cannot be written.
    """
    tables = b"".join(Layout(virtual_size, Runs()).tables())
    with open(path, "r+b", buffering=0) as file:
        file.truncate(0)
        file.write(tables)
