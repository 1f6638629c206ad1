# SPDX-License-Identifier: Apache-2.0
"""Disks with content: random bytes, an operating system's files, the same clusters many times."""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

from tests.fixtures.commands import run

MIB = 1 << 20
CLUSTER = 64 << 10
PIECE = 4 * MIB
OWN_PIECE = 64 * MIB
TREE = Path("/usr")
LARGEST_FILE = 64 * MIB
# Below this place on a disk is the guest's own system.
START = 256 * MIB
# Clusters that are really there in a file of shared ones.
_SHARED = 16 * MIB // CLUSTER
_COPIED = 1 << 63


def write_random(path: Path, offset: int, size: int) -> None:
    """Incompressible content, in one run."""
    with path.open("r+b") as file:
        file.seek(offset)
        for start in range(0, size, PIECE):
            file.write(os.urandom(min(PIECE, size - start)))


def write_own(disk: Path, offset: int, size: int, directory: Path) -> None:
    """The same into a qcow2 file over a backing file, as a guest would have written it.

    :param directory: for a file that is gone afterwards.
    """
    piece = directory / "piece"
    for start in range(0, size, OWN_PIECE):
        length = min(OWN_PIECE, size - start)
        piece.write_bytes(os.urandom(length))
        command = f"write -q -s {piece} {offset + start} {length}"
        run("qemu-io", "-f", "qcow2", "-c", command, disk)
    piece.unlink()


def write_scattered(path: Path, offset: int, size: int, end: int) -> None:
    """Incompressible content in pieces of 4 MiB, evenly spread from ``offset`` to ``end``."""
    count = size // PIECE
    step = (end - offset) // count // PIECE * PIECE
    with path.open("r+b") as file:
        for number in range(count):
            file.seek(offset + number * step)
            file.write(os.urandom(PIECE))


def write_tree(path: Path, offset: int, size: int, directory: Path) -> None:
    """A file system with files of this host's /usr that take up ``size`` bytes.

    :param directory: for copies of them, which are gone afterwards.
    """
    root = directory / "tree"
    for file in tree_files(size):
        target = root / file.relative_to(TREE)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    # A quarter more, for tables, inodes and what is left over in blocks.
    room = f"{(size + size // 4) // 1024 + 16384}k"
    place = f"offset={offset},lazy_itable_init=0,lazy_journal_init=0"
    run("mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-E", place, "-d", root, path, room,
        timeout=600)  # fmt: skip
    shutil.rmtree(root)


def tree_files(size: int) -> Iterator[Path]:
    """Files of /usr in an order that is the same everywhere and mixes all kinds of them."""
    total = 0
    for file in sorted(_regular_files(TREE), key=_mixed):
        length = file.stat().st_size
        if length > LARGEST_FILE:
            continue
        total += length
        if total > size:
            return
        yield file


def _regular_files(root: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(root):
        for name in names:
            file = Path(parent, name)
            if file.is_file() and not file.is_symlink() and os.access(file, os.R_OK):
                yield file


def _mixed(file: Path) -> bytes:
    return hashlib.sha256(os.fsencode(file)).digest()


def make_shared(path: Path, virtual_size: int, allocated: int) -> None:
    """A qcow2 file whose first ``allocated`` bytes are data, while it is small itself.

    16 MiB of random clusters are referred to again and again, which qcow2 allows for (its internal
    snapshots do it). So a disk with much data costs neither space nor time.
    """
    per_table = CLUSTER // 8
    clusters = allocated // CLUSTER
    tables = -(-clusters // per_table)
    entries = -(-virtual_size // (per_table * CLUSTER))
    l1_clusters = -(-entries * 8 // CLUSTER)
    first_table = 3 + l1_clusters
    first_data = first_table + tables
    uses, more = divmod(clusters, _SHARED)
    counts = [1] * first_data + [uses + (n < more) for n in range(_SHARED)]
    header = struct.pack(
        ">4sIQIIQIIQQIIQQQQII", b"QFI\xfb", 3, 0, 0, 16, virtual_size, 0, entries, 3 * CLUSTER,
        CLUSTER, 1, 0, 0, 0, 0, 0, 4, 104,
    )  # fmt: skip
    with path.open("wb") as file:
        file.write(header)
        file.seek(CLUSTER)
        file.write(struct.pack(">Q", 2 * CLUSTER))
        file.seek(2 * CLUSTER)
        file.write(struct.pack(f">{len(counts)}H", *counts))
        file.seek(3 * CLUSTER)
        file.writelines(
            struct.pack(">Q", (first_table + n) * CLUSTER | _COPIED) for n in range(tables)
        )
        file.seek(first_table * CLUSTER)
        file.writelines(
            struct.pack(">Q", (first_data + n % _SHARED) * CLUSTER) for n in range(clusters)
        )
        file.seek(first_data * CLUSTER)
        file.writelines(os.urandom(MIB) for _ in range(_SHARED * CLUSTER // MIB))
