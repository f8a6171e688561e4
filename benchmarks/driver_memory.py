"""The driver's memory while samples grow tenfold: python -m benchmarks.driver_memory

Rows of a parquet file are read, half of them filtered away, the rest shuffled and packed into shards, on Ray workers;
each size in a process of its own. The peak is the driver's highest resident memory during the run; before it, Ray was
started, everything imported and a small run done. The driver keeps a record for each unit, so a little growth is
right; had it held the rows, as little as 100 bytes for each would put the ratio below 0.8.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

GOAL = 0.95  # peak at the small size, as a share of the peak at the large one
SIZES = (100_000, 1_000_000)
UNIT = 10_000

RECIPE = """
store: {folder}/store-{rows}
flows:
  tiny:
    - ingest.parquet: {{path: {folder}/{rows}.parquet, unit: {unit}}}
    - filter.where: {{sql: "n % 2 = 0"}}
    - select.shuffle:
outputs:
  tiny: {{pack: tiny, to: {folder}/out-{rows}, shard: {{bytes: 64MB}}}}
"""


class Quiet:
    """A watcher of a run that shows nothing."""

    def submitted(self, run: Any, reused: bool) -> None: ...
    def committed(self, run: Any, done: Any, reused: bool) -> None: ...
    def died(self, run: Any, death: Any, row: int | None) -> None: ...
    def tick(self) -> None: ...


def write_rows(path: Path, rows: int) -> None:
    """A parquet file of small rows."""
    numbers = list(range(rows))
    table = pa.table({"n": numbers, "text": [f"Line {n} of a long book." for n in numbers]})
    pq.write_table(table, path, row_group_size=UNIT)


def run(folder: Path, rows: int, executor: Any) -> None:
    """The recipe on one size."""
    from pipelines.engine import Engine
    from pipelines.plan import make_plan
    from schemas.store import Store

    plan = make_plan("memory.yaml", RECIPE.format(folder=folder, rows=rows, unit=UNIT))
    Engine(plan, Store(f"{folder}/store-{rows}"), executor, Quiet()).run()


def measure(folder: Path, rows: int) -> dict[str, float]:
    """In a process of its own: MB of the driver before and at its peak, of the largest worker, and seconds."""
    from pipelines.executors import RayExecutor
    from schemas.store import Store

    write_rows(folder / f"{UNIT}.parquet", UNIT)
    warm = RayExecutor(Store(f"{folder}/store-{UNIT}"), {}, "local", 2)
    run(folder, UNIT, warm)
    executor = RayExecutor(Store(f"{folder}/store-{rows}"), {}, "local", 2)
    before = _status(os.getpid(), "VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here on
    start = time.perf_counter()
    run(folder, rows, executor)
    seconds = time.perf_counter() - start
    peak = _status(os.getpid(), "VmHWM")
    workers = [p.pid for p in psutil.Process().children(recursive=True) if "RayWorker" in p.name()]
    worker = max(_status(pid, "VmHWM") for pid in workers)
    executor.close()
    warm.close()
    return {"before": before, "peak": peak, "worker": worker, "seconds": seconds}


def _status(pid: int, name: str) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def main() -> None:
    """Run both sizes and print them."""
    if len(sys.argv) > 1:
        print(json.dumps(measure(Path(sys.argv[1]), int(sys.argv[2]))))
        return
    print(f"{'samples':>9}  driver MB before     peak   growth   worker peak MB  seconds")
    peaks = []
    for rows in SIZES:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            write_rows(Path(folder, f"{rows}.parquet"), rows)
            command = [sys.executable, "-m", "benchmarks.driver_memory", folder, str(rows)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(output.splitlines()[-1])
        peaks.append(found["peak"])
        print(
            f"{rows:9}  {found['before']:16.1f}{found['peak']:9.1f}{found['peak'] - found['before']:9.1f}"
            f"{found['worker']:17.1f}{found['seconds']:9.1f}",
            flush=True,
        )
    each = (peaks[1] - peaks[0]) * 2**20 / (SIZES[1] - SIZES[0])
    print(f"one more sample costs the driver {each:.1f} bytes")
    print(f"driver_memory ratio={peaks[0] / peaks[1]:.3f} goal={GOAL:g}")


if __name__ == "__main__":
    main()
