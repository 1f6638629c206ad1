# SPDX-License-Identifier: Apache-2.0
"""How many arenas the C library makes of a service's threads."""

import os
import subprocess
import sys

import pytest

# Each thread takes some memory while all the others have theirs, and glibc lists its arenas.
PROGRAM = """
import ctypes, threading
from nova_snap.cmd import memory
said = memory.limit_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
together = threading.Barrier(12)
def work():
    assert libc.malloc(1000)
    together.wait(30)
threads = [threading.Thread(target=work) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc.malloc_stats()
print(said)
"""


def arenas(**chosen: str) -> tuple[int, bool]:
    """How many there are, and what :func:`nova_snap.cmd.memory.limit_arenas` said."""
    names = ("MALLOC_ARENA_MAX", "GLIBC_TUNABLES")
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env={**environment, **chosen}, check=True,
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    return done.stderr.count("Arena "), done.stdout.strip() == "True"


def test_there_are_two() -> None:
    assert arenas() == (2, True)


@pytest.mark.parametrize(
    "chosen", [{"MALLOC_ARENA_MAX": "5"}, {"GLIBC_TUNABLES": "glibc.malloc.arena_max=5"}], ids=str
)
def test_unless_the_operator_has_chosen(chosen: dict[str, str]) -> None:
    assert arenas(**chosen) == (5, False)
