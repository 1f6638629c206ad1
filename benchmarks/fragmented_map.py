# SPDX-License-Identifier: Apache-2.0
"""What a badly fragmented disk costs before its first byte is sent.

::

    python benchmarks/fragmented_map.py [--extents 40000] [--runs 5]

Half of the extents are data, one cluster each; a file with such holes is made, its map is asked of
the file system, and the layout and the tables are made from it. Prints a table of medians for the
number of extents asked for and for four times as many, then one line of JSON.
"""

import argparse
import json
import os
import pathlib
import statistics
import tempfile
import time

from nova_snap.stream.clusters import allocated
from nova_snap.stream.file_source import FileSource
from nova_snap.stream.qcow2 import Layout
from nova_snap.stream.qcow2_format import CLUSTER_SIZE

STEPS = ("map", "layout", "tables")


def make_disk(path: pathlib.Path, extents: int) -> None:
    """Every second cluster has one block of data."""
    with path.open("wb") as file:
        file.truncate(extents * CLUSTER_SIZE)
        for number in range(0, extents, 2):
            os.pwrite(file.fileno(), b"data", number * CLUSTER_SIZE)


def measure(path: pathlib.Path, extents: int) -> dict[str, float]:
    """Seconds for each step."""
    times = [time.perf_counter()]
    with FileSource(path) as source:
        found = source.extents()
        times.append(time.perf_counter())
        layout = Layout(source.size, allocated(found, source.size, CLUSTER_SIZE))
        times.append(time.perf_counter())
        for _ in layout.tables():
            pass
        times.append(time.perf_counter())
    if len(found) != extents:
        raise SystemExit(f"the file system shows {len(found)} extents, not {extents}")
    return {
        step: after - before for step, before, after in zip(STEPS, times, times[1:], strict=False)
    }


def medians(directory: pathlib.Path, extents: int, runs: int) -> dict[str, float]:
    path = directory / f"{extents}.raw"
    make_disk(path, extents)
    results = [measure(path, extents) for _ in range(runs)]
    found = {step: statistics.median(result[step] for result in results) for step in STEPS}
    found["total"] = statistics.median(sum(result.values()) for result in results)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--extents", type=int, default=40_000, help="an even number")
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    if options.extents < 2 or options.extents % 2 or options.runs < 1:
        parser.error("--extents must be an even number from 2 on, --runs 1 or more")
    print(f"{'extents':>10}" + "".join(f"{step + ' s':>12}" for step in (*STEPS, "total")))
    answer: dict[str, float] = {"extents": options.extents}
    with tempfile.TemporaryDirectory() as directory:
        for factor in (1, 4):
            found = medians(pathlib.Path(directory), options.extents * factor, options.runs)
            print(
                f"{options.extents * factor:>10}" + "".join(f"{s:>12.3f}" for s in found.values())
            )
            if factor == 1:
                answer |= {f"{step}_seconds": round(value, 4) for step, value in found.items()}
            else:
                answer["four_times_as_many"] = round(found["total"] / answer["total_seconds"], 2)
    print(json.dumps({"fragmented_map": answer}))


if __name__ == "__main__":
    main()
