# SPDX-License-Identifier: Apache-2.0
"""Compressed data that waits."""

import os
import pathlib
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nova_snap.stream.image_errors import SpoolFailed
from nova_snap.stream.spool import Spool
from tests.unit.stream.disks import MIB


def files_in(directory: pathlib.Path) -> list[str]:
    """Files of the directory that this process has open, with a name or without one."""
    links = (f"/proc/self/fd/{fd}" for fd in os.listdir("/proc/self/fd"))
    targets = (os.readlink(link) for link in links if os.path.islink(link))
    return [target for target in targets if target.startswith(str(directory))]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3 * MIB), max_size=8), st.integers(0, 6 * MIB))
def test_what_goes_in_comes_out_twice(lengths: list[int], memory: int) -> None:
    data = [bytes([n + 1]) * length for n, length in enumerate(lengths)]
    with Spool(memory) as spool:
        for part in data:
            spool.write(part)
        assert spool.size == sum(lengths)
        # What is in memory is at most what was allowed, and one block that is being filled.
        assert spool.size - spool.on_disk < memory + MIB
        assert spool.size > memory or not spool.on_disk
        for _ in range(2):
            assert b"".join(spool.read()) == b"".join(data)


def test_what_would_still_fit_after_something_went_to_disk_follows_it() -> None:
    data = [b"a" * MIB, b"b" * 3 * MIB, b"c" * MIB]
    with Spool(2 * MIB) as spool:
        for part in data:
            spool.write(part)
        assert spool.on_disk == 4 * MIB
        assert b"".join(spool.read()) == b"".join(data)


def test_what_fits_into_memory_makes_no_file(tmp_path: pathlib.Path) -> None:
    with Spool(4 * MIB, str(tmp_path)) as spool:
        for _ in range(40):
            spool.write(bytes(MIB // 10))
        assert spool.on_disk == 0
        assert files_in(tmp_path) == []


def test_the_file_has_no_name_and_goes(tmp_path: pathlib.Path) -> None:
    with Spool(MIB, str(tmp_path)) as spool:
        for _ in range(50):
            spool.write(os.urandom(MIB // 10))
        assert spool.on_disk >= 3 * MIB
        assert list(tmp_path.iterdir()) == []
        (file,) = files_in(tmp_path)
        assert file.endswith("(deleted)")
    assert files_in(tmp_path) == []
    spool.close()


def test_a_directory_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with Spool(0, str(tmp_path / "gone")) as spool:
        with pytest.raises(SpoolFailed, match="gone after 0 bytes: No such file") as caught:
            spool.write(bytes(MIB))
        assert str(tmp_path) not in caught.value.for_user()


def test_a_full_disk(tmp_path: pathlib.Path) -> None:
    """The limit of a file's length stands for the file system's: both refuse in write()."""
    program = (
        "import resource, sys\n"
        "from nova_snap.stream.image_errors import SpoolFailed\n"
        "from nova_snap.stream.spool import Spool\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, 2_500_000))\n"
        "spool = Spool(0, sys.argv[1])\n"
        "try:\n"
        "    for _ in range(4):\n"
        "        spool.write(bytes(1 << 20))\n"
        "except SpoolFailed as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, timeout=60
    )
    assert done.stdout == (
        f"Compressed data could not be kept in {tmp_path} after 2500000 bytes: File too large\n"
    ), done.stderr
    assert list(tmp_path.iterdir()) == []
