# SPDX-License-Identifier: Apache-2.0
"""Images against those who will read them: QEMU, and the image service's own inspector."""

import pathlib
import subprocess
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from oslo_utils.imageutils import format_inspector

from nova_snap.stream.clusters import allocated
from nova_snap.stream.file_source import FileSource, MemorySource
from nova_snap.stream.pipeline import Options, open_image
from nova_snap.stream.qcow2 import Layout
from nova_snap.stream.source import Extent, Source
from tests.unit.stream.disks import (
    AROUND,
    BLOCK_COVERS,
    CLUSTER,
    GIB,
    KIB,
    L2_COVERS,
    MIB,
    TIB,
    content,
    disks,
    mixed,
)
from tests.unit.stream.test_file_source import sparse_file

EVERY = ("none", "zlib", "zstd")


def qemu_img(*arguments: str | pathlib.Path) -> str:
    done = subprocess.run(
        ["qemu-img", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}"
    return done.stdout


def write_image(source: Source, path: pathlib.Path, options: Options) -> None:
    """Long zeroes are left as holes of the file."""
    with open_image(source, options) as image, path.open("wb") as file:
        while block := image.read(MIB):
            if block != bytes(len(block)):
                file.write(block)
            else:
                file.seek(len(block), 1)
        file.truncate()
        assert file.tell() == image.tell()
        assert image.size in (None, file.tell())


def write_disk(source: MemorySource, path: pathlib.Path) -> pathlib.Path:
    parts = {
        extent.offset: b"".join(map(bytes, source.read([(extent.offset, extent.length)])))
        for extent in source.extents()
        if extent.data
    }
    return sparse_file(path, source.size, parts)


def passes_inspection(path: pathlib.Path, virtual_size: int) -> None:
    """As the image service does it: piece by piece while the image comes in."""
    with path.open("rb") as file:
        inspector = format_inspector.InspectWrapper(file, expected_format="qcow2")
        for _ in range(4):
            inspector.read(64 * KIB)
        inspector.close()
    assert str(inspector.format) == "qcow2"
    assert inspector.format is not None
    inspector.format.safety_check()
    assert inspector.format.virtual_size == virtual_size


def holds(source: MemorySource, where: pathlib.Path, kinds: Sequence[str] = EVERY) -> None:
    disk = write_disk(source, where / "disk.raw")
    for compression in kinds:
        path = where / f"{compression}.qcow2"
        write_image(source, path, Options(compression=compression, workers=2))
        assert "No errors were found" in qemu_img("check", "-f", "qcow2", path)
        compared = qemu_img("compare", "-f", "raw", "-F", "qcow2", disk, path)
        assert "Images are identical" in compared
        passes_inspection(path, -(-source.size // 512) * 512)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(disks())
def test_any_disk(tmp_path: pathlib.Path, source: MemorySource) -> None:
    holds(source, tmp_path)


@pytest.mark.parametrize("size", AROUND)
def test_data_at_both_ends_of_sizes_around_each_boundary(tmp_path: pathlib.Path, size: int) -> None:
    parts = {0: content(min(size, 700), "random", 1)}
    if size > 1500:
        parts[size - 700] = content(700, "text", 2)
    source = MemorySource(size, parts)
    holds(source, tmp_path, kinds=("none", "zstd"))


@pytest.mark.parametrize("cluster_size", [128 * KIB, 2 * MIB])
def test_larger_clusters(tmp_path: pathlib.Path, cluster_size: int) -> None:
    source = MemorySource(GIB, {100 * KIB: mixed(9 * MIB, 1), GIB - 5 * MIB: mixed(5 * MIB, 2)})
    disk = write_disk(source, tmp_path / "disk.raw")
    for compression in EVERY:
        path = tmp_path / f"{compression}.qcow2"
        write_image(source, path, Options(compression=compression, cluster_size=cluster_size))
        assert "No errors were found" in qemu_img("check", "-f", "qcow2", path)
        qemu_img("compare", "-f", "raw", "-F", "qcow2", disk, path)
        passes_inspection(path, GIB)


def test_8_tib_with_a_little_data_far_apart(tmp_path: pathlib.Path) -> None:
    parts = {offset: mixed(MIB, offset) for offset in range(0, 8 * TIB, TIB - 3 * CLUSTER)}
    holds(MemorySource(8 * TIB, parts), tmp_path)
    assert max(path.stat().st_size for path in tmp_path.glob("*.qcow2")) < 20 * MIB


@pytest.mark.parametrize(
    ("size", "data", "hole"),
    [
        (40_000 * 128 * KIB, 64 * KIB, 64 * KIB),
        (BLOCK_COVERS - 9 * CLUSTER, BLOCK_COVERS - 9 * CLUSTER, 0),
        (BLOCK_COVERS - 8 * CLUSTER, BLOCK_COVERS - 8 * CLUSTER, 0),
        (BLOCK_COVERS - 7 * CLUSTER, BLOCK_COVERS - 7 * CLUSTER, 0),
        (64 * L2_COVERS + 512, 64 * L2_COVERS + 512, 0),
    ],
    ids=["40000-extents", "one-block-less", "one-block", "two-blocks", "32-gib-and-a-sector"],
)
def test_much_data_of_which_only_the_tables_are_written(
    tmp_path: pathlib.Path, size: int, data: int, hole: int
) -> None:
    found = []
    for begin in range(0, size, data + hole):
        found.append(Extent(begin, data, True))
        if hole:
            found.append(Extent(begin + data, hole, False))
    layout = Layout(size, allocated(found, size, CLUSTER))
    path = tmp_path / "image.qcow2"
    with path.open("wb") as file:
        file.writelines(layout.tables())
        assert file.tell() == layout.tables_size
        file.truncate(layout.size)
    checked = qemu_img("check", "-f", "qcow2", path)
    assert "No errors were found" in checked
    clusters = -(-size // (data + hole)) * -(-data // CLUSTER)
    assert checked.splitlines()[1].startswith(f"{clusters}/{-(-size // CLUSTER)} ")
    passes_inspection(path, size)


def test_a_sparse_file_through_every_way(tmp_path: pathlib.Path) -> None:
    parts = {3 * MIB: mixed(20 * MIB, 1), 200 * MIB: content(10 * MIB, "random", 2)}
    disk = sparse_file(tmp_path / "disk", GIB // 4, parts)
    with FileSource(disk) as source:
        for compression in EVERY:
            path = tmp_path / f"{compression}.qcow2"
            options = Options(compression=compression, spool_memory=0)
            write_image(source, path, options)
            assert "No errors were found" in qemu_img("check", "-f", "qcow2", path)
            qemu_img("compare", "-f", "raw", "-F", "qcow2", disk, path)
        raw = tmp_path / "disk.out"
        write_image(source, raw, Options(image_format="raw"))
        assert subprocess.run(["cmp", disk, raw], timeout=60).returncode == 0


def test_what_qemu_writes_into_an_image_stays_sound(tmp_path: pathlib.Path) -> None:
    """Wrong refcounts show when clusters are freed, shared and written again."""
    source = MemorySource(GIB, {0: mixed(6 * MIB, 1)})
    disk = write_disk(source, tmp_path / "disk.raw")
    for compression in EVERY:
        path = tmp_path / f"{compression}.qcow2"
        write_image(source, path, Options(compression=compression))
        qemu_img("snapshot", "-c", "before", path)
        for command in ("write -P 7 100k 3M", "discard 2M 1M", "write -P 8 800M 1M"):
            subprocess.run(
                ["qemu-io", "-f", "qcow2", "-c", command, path],
                check=True,
                timeout=60,
                stdout=subprocess.DEVNULL,
            )
        assert "No errors were found" in qemu_img("check", "-f", "qcow2", path)
        qemu_img("snapshot", "-a", "before", path)
        qemu_img("snapshot", "-d", "before", path)
        assert "No errors were found" in qemu_img("check", "-f", "qcow2", path)
        qemu_img("compare", "-f", "raw", "-F", "qcow2", disk, path)
