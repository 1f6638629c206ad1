# SPDX-License-Identifier: Apache-2.0
"""Disks to make images of."""

import random
from collections.abc import Sequence

from hypothesis import strategies as st

from nova_snap.stream.file_source import MemorySource
from nova_snap.stream.source import Extent

KIB, MIB, GIB, TIB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
CLUSTER = 64 * KIB
# What one L2 table covers, and how much of a file one refcount block does.
L2_COVERS = 512 * MIB
BLOCK_COVERS = 2 * GIB

BOUNDARIES = (0, 512, CLUSTER, 8 * CLUSTER, L2_COVERS, BLOCK_COVERS)
AROUND = sorted({max(b + d, 0) for b in BOUNDARIES for d in (-512, -1, 0, 1, 512)})


def sizes(largest: int) -> st.SearchStrategy[int]:
    near = [size for size in AROUND if size <= largest]
    return st.one_of(st.sampled_from(near), st.integers(0, largest))


@st.composite
def extents(draw: st.DrawFn, size: int, longest: int = 40 * MIB) -> list[Extent]:
    """A map of up to ten stretches of data, some of them at both ends of things."""
    lengths = st.one_of(
        st.sampled_from([1, 511, 512, 4 * KIB, CLUSTER - 1, CLUSTER, CLUSTER + 1]),
        st.integers(1, longest),
    )
    gaps = st.one_of(
        st.sampled_from([1, 512, 4 * KIB, 32 * KIB - 1, 32 * KIB, CLUSTER, L2_COVERS]),
        st.integers(1, max(size, 1)),
    )
    found: list[Extent] = []
    at = 0
    data = draw(st.booleans())
    for _ in range(draw(st.integers(0, 20))):
        length = min(draw(lengths if data else gaps), size - at)
        if not length:
            break
        found.append(Extent(at, length, data))
        at += length
        data = not data
    if at < size:
        rest = Extent(at, size - at, False)
        if found and not found[-1].data:
            rest = Extent(found.pop().offset, size - found_end(found), False)
        found.append(rest)
    return found


def found_end(extents: Sequence[Extent]) -> int:
    return extents[-1].offset + extents[-1].length if extents else 0


def content(length: int, kind: str, seed: int) -> bytes:
    """Bytes of a kind: ``zeroes``, ``random`` (nothing compresses them), or ``text``."""
    if kind == "zeroes":
        return bytes(length)
    noise = random.Random(seed)
    if kind == "random":
        return noise.randbytes(length)
    word = noise.randbytes(300)
    return (word * (length // len(word) + 1))[:length]


@st.composite
def disks(draw: st.DrawFn, largest: int = 3 * GIB) -> MemorySource:
    """Disks with a little data of every kind, read in pieces of some length."""
    size = draw(sizes(largest))
    parts = {}
    for offset, length, data in draw(extents(size, 3 * CLUSTER)):
        if data:
            kind = draw(st.sampled_from(["zeroes", "random", "text", "mixed"]))
            parts[offset] = mixed(length, offset) if kind == "mixed" else content(length, kind, 1)
    return MemorySource(size, parts, piece=draw(st.sampled_from([512, 5000, CLUSTER, MIB])))


def mixed(length: int, seed: int) -> bytes:
    """Clusters of all kinds, one after the other."""
    kinds = ("text", "zeroes", "random")
    parts = [
        content(CLUSTER, kinds[number % 3], seed + number)
        for number in range(length // CLUSTER + 1)
    ]
    return b"".join(parts)[:length]


def disk_bytes(source: MemorySource, offset: int, length: int) -> bytes:
    """What is there, zeroes beyond the end included."""
    length_inside = max(min(length, source.size - offset), 0)
    inside = b"".join(bytes(piece) for piece in source.read([(offset, length_inside)]))
    return inside + bytes(length - length_inside)


def clusters_with_data(extents: Sequence[Extent], cluster_size: int = CLUSTER) -> set[int]:
    return {
        number
        for offset, length, data in extents
        if data
        for number in range(offset // cluster_size, (offset + length - 1) // cluster_size + 1)
    }
