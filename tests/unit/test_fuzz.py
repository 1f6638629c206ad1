# SPDX-License-Identifier: Apache-2.0
"""A short run of each target of ``tox -e fuzz``, with the same choices each time.

``NOVA_SNAP_FUZZ_MINUTES`` says how long all of them take together.
"""

import os
import pathlib
import subprocess
import sys

import pytest

from tests.fuzz import targets

MINUTES = float(os.environ.get("NOVA_SNAP_FUZZ_MINUTES", "2"))
SEED = 1


@pytest.mark.parametrize("target", targets.NAMES)
def test_nothing_is_found(tmp_path: pathlib.Path, target: str) -> None:
    minutes = str(MINUTES / len(targets.NAMES))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "tests.fuzz", "--target", target, "--minutes", minutes),
            *("--seed", str(SEED), "--keep", str(tmp_path)),
        ],
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    # What finds nothing because it does nothing would not be noticed.
    (line,) = (line.split() for line in done.stdout.splitlines() if line.startswith(f"{target} "))
    assert int(line[1]) > 0, done.stdout
