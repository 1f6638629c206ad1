# SPDX-License-Identifier: Apache-2.0
"""What the process keeps of the memory that it has used."""

import ctypes
import os
from typing import Final

# Of <malloc.h>.
_M_ARENA_MAX: Final = -8

_ARENAS: Final = 2


def limit_arenas() -> bool:
    """Have the C library allocate from few arenas, before the first thread is started.

    glibc has eight for each CPU otherwise, gives them to threads by turns, and keeps in each what
    the largest buffers needed that were ever in it: each snapshot has threads of its own, so that
    all of them grow to that size, on a host with many CPUs to gigabytes. They would only spare
    threads the wait for each other, which Python's do anyway.

    :returns: whether it does: not if the operator has chosen (MALLOC_ARENA_MAX, GLIBC_TUNABLES),
        nor with a C library that has no arenas.
    """
    chosen = "glibc.malloc.arena_max" in os.environ.get("GLIBC_TUNABLES", "")
    if chosen or "MALLOC_ARENA_MAX" in os.environ:
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(_M_ARENA_MAX, _ARENAS))
