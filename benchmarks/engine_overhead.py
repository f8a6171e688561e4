"""What the engine costs beside light work: python -m benchmarks.engine_overhead [samples]

Four light text steps over captions as JSON lines: by a recipe on Ray workers, by a Ray Data
pipeline, and by a loop in one process. All call the same functions on the same files, give the same rows and fsync
them; ours also keeps the rejects, commits every unit and digests every column. Ray is started before the clock. Two
comparisons:

- a job: what a run costs. Workers are fresh each time, and the clock holds the start of those that do the job.
- warm: the same again on workers that have done it before. What is left is the work and the cost of each row.

Ray Data as fast as we could make it: the steps chained as pyarrow tables, a block at a time, so that reading, steps
and writing become one operator; one task for each file; no progress bars; and no reservation of resources, with
which it ran one task at a time on two CPUs (1.6x slower). Two or four tasks, the steps merged by hand, smaller blocks,
`concurrency` and tasks of half a CPU were tried, and were slower or the same.
"""

from __future__ import annotations

import contextlib
import gc
import json
import logging
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import ray
import ray.data

from benchmarks import _light_stages as light
from pipelines.engine import Engine
from pipelines.executors import RayExecutor
from pipelines.plan import make_plan
from schemas.columns import column
from schemas.store import Store, sync_directory

GOAL = 2.0  # times as fast as Ray Data
LOOP_GOAL = 1.8  # times what the loop takes, at most
SAMPLES = 50_000
UNIT = 5_000
JOB_ROUNDS, WARM_ROUNDS = 2, 3

RECIPE = """
store: {store}
flows:
  texts:
    - ingest.jsonl: {{path: {texts}, id: id, unit: {unit}}}{steps}"""
KINDS = {
    "id": pa.string(),
    "text": pa.string(),
    "task": pa.string(),
    "clean": pa.string(),
    "letters": pa.int64(),
    "words": pa.int64(),
    "mean_word": pa.float64(),
    "symbols": pa.float64(),
    "hash": pa.int64(),
}


class Quiet:
    """A watcher of a run that shows nothing."""

    def submitted(self, run: Any, reused: bool) -> None: ...
    def committed(self, run: Any, done: Any, reused: bool) -> None: ...
    def died(self, run: Any, death: Any, row: int | None) -> None: ...
    def tick(self) -> None: ...


class Meter:
    """Seconds by the clock, and of all CPUs in this process and its descendants."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Measure what happens inside."""
        cpu, start = _cpu_seconds(), time.perf_counter()
        yield
        self.wall = time.perf_counter() - start
        self.cpu = sum(now - cpu.get(process, 0.0) for process, now in _cpu_seconds().items())


def _cpu_seconds() -> dict[psutil.Process, float]:
    me = psutil.Process()
    found = {}
    for process in (me, *me.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            found[process] = times.user + times.system
    return found


class Ours:
    """A recipe on the engine; its layers are committed to a fresh store."""

    def __init__(self, out: Path) -> None:
        self._out = out
        self._executor = RayExecutor(Store(str(out)), {}, "local", None)

    def run(self, texts: Path, meter: Meter) -> Callable[[], pa.Table]:
        """A whole run; gives a function that reads its rows."""
        shutil.rmtree(self._out, ignore_errors=True)
        with meter.running():
            plan = make_plan("overhead.yaml", RECIPE.format(store=self._out, texts=texts, unit=UNIT, steps=light.STEPS))
            engine = Engine(plan, Store(str(self._out)), self._executor, Quiet())
            engine.run()
        return lambda: _rows_of(engine)

    def close(self) -> None:
        """Stop the workers."""
        self._executor.close()


def _rows_of(engine: Engine) -> pa.Table:
    paths = {"id": "key", "text": "text", "task": "task", "clean": "clean.text", "hash": "sketch.hash"}
    paths |= {name: f"measure.{name}" for name in light.Statistics._fields}
    tables = []
    for _, view in sorted(engine.runs[-1].units.items()):
        base, layer = (engine.ledger.read(commit.fp) for commit in view.commits)
        arrays = {n: column(base if paths[n] in base.column_names else layer, paths[n]) for n in KINDS}
        tables.append(pa.table(arrays).filter(layer.column("_drop").combine_chunks().is_null()))
    table = pa.concat_tables(tables)
    local = [key.rpartition("/")[2] for key in table.column("id").to_pylist()]
    return table.set_column(0, "id", pa.array(local))


def clean_step(table: pa.Table) -> pa.Table:
    """`clean` on a block."""
    return table.append_column("clean", pa.array([light.clean(text) for text in table.column("text").to_pylist()]))


def measure_step(table: pa.Table) -> pa.Table:
    """`statistics` on a block."""
    figures = [light.statistics(text) for text in table.column("clean").to_pylist()]
    for name, values in zip(light.Statistics._fields, zip(*figures, strict=True), strict=True):
        table = table.append_column(name, pa.array(values, KINDS[name]))
    return table


def repetitive_step(table: pa.Table) -> pa.Table:
    """`repetition` as a filter of a block."""
    texts = table.column("clean").to_pylist()
    return table.filter(pa.array([light.repetition(text) <= light.MAX_REPETITION for text in texts]))


def sketch_step(table: pa.Table) -> pa.Table:
    """`sketch` on a block."""
    hashes = [light.sketch(text) for text in table.column("clean").to_pylist()]
    return table.append_column("hash", pa.array(hashes, pa.int64()))


STEPS = (clean_step, measure_step, repetitive_step, sketch_step)


def run_ray_data(texts: Path, out: Path, meter: Meter) -> Callable[[], pa.Table]:
    """A Ray Data pipeline, written to parquet."""
    with meter.running():
        paths = sorted(map(str, texts.iterdir()))
        data = ray.data.read_json(paths, override_num_blocks=len(paths))
        for step in STEPS:
            data = data.map_batches(step, batch_format="pyarrow")
        data.write_parquet(str(out))
        _sync(out)
    return lambda: pq.read_table(out)


def run_loop(texts: Path, out: Path, meter: Meter) -> Callable[[], pa.Table]:
    """One process, one row after another."""
    with meter.running():
        columns: dict[str, list[Any]] = {name: [] for name in KINDS}
        for path in sorted(texts.iterdir()):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    row = json.loads(line)
                    row["clean"] = light.clean(row["text"])
                    row.update(light.statistics(row["clean"])._asdict())
                    if light.repetition(row["clean"]) > light.MAX_REPETITION:
                        continue
                    row["hash"] = light.sketch(row["clean"])
                    for name, values in columns.items():
                        values.append(row[name])
        out.mkdir()
        table = pa.table({name: pa.array(values, KINDS[name]) for name, values in columns.items()})
        pq.write_table(table, out / "rows.parquet")
        _sync(out)
    return lambda: pq.read_table(out)


def _sync(folder: Path) -> None:
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_directory(str(folder))


class Contest:
    """The measurements of all contestants, on Ray started anew for a job, or kept for warm workers."""

    def __init__(self, folder: Path, samples: int) -> None:
        self.meters: dict[str, list[Meter]] = {}
        self._folder = folder
        self._texts = folder / "texts"
        self._texts.mkdir()
        self._samples = samples
        light.write_texts(self._texts, samples, max(2, samples // UNIT))
        self._rows: pa.Table | None = None

    def warm(self, rounds: int) -> None:
        """All of them in turns; the first run of each was a job, on workers of its own."""
        with _ray():
            ours = Ours(self._folder / "store")
            for kind in ["a job"] + ["warm"] * rounds:
                self._measure(f"ours, {kind}", ours.run)
                self._measure(f"Ray Data, {kind}", self._ray_data)
                self._measure("plain loop", self._loop)
            ours.close()

    def job(self) -> None:
        """Ours and Ray Data, each on a Ray of its own."""
        with _ray():
            ours = Ours(self._folder / "store")
            self._measure("ours, a job", ours.run)
            ours.close()
        with _ray():
            self._measure("Ray Data, a job", self._ray_data)

    def _ray_data(self, texts: Path, meter: Meter) -> Callable[[], pa.Table]:
        return run_ray_data(texts, self._empty("parquet"), meter)

    def _loop(self, texts: Path, meter: Meter) -> Callable[[], pa.Table]:
        return run_loop(texts, self._empty("loop"), meter)

    def _empty(self, name: str) -> Path:
        shutil.rmtree(self._folder / name, ignore_errors=True)
        return self._folder / name

    def _measure(self, name: str, run: Callable[[Path, Meter], Callable[[], pa.Table]]) -> None:
        gc.collect()
        os.sync()
        meter = Meter()
        result = run(self._texts, meter)
        if name not in self.meters:  # all must have made the same rows
            rows = result().select(list(KINDS)).cast(pa.schema(KINDS)).sort_by("id").combine_chunks()
            self._rows = self._rows or rows
            if not rows.equals(self._rows):
                raise AssertionError(f"{name} made other rows")
        self.meters.setdefault(name, []).append(meter)

    def median(self, name: str) -> float:
        """Seconds by the clock."""
        return statistics.median(meter.wall for meter in self.meters[name])

    def report(self) -> None:
        """Print the table, and last the line with the ratio."""
        print(f"{self._samples} samples   seconds    CPU s  us/sample  Ray Data/this  this/loop")
        loop = self.median("plain loop")
        for name, meters in sorted(self.meters.items(), key=lambda item: item[0].rpartition(", ")[2]):
            wall, cpu = self.median(name), statistics.median(meter.cpu for meter in meters)
            kind = name.rpartition(", ")[2]
            peer = f"{self.median(f'Ray Data, {kind}') / wall:13.2f}" if name.startswith("ours") else f"{'':13}"
            print(f"{name:16}{wall:9.2f}{cpu:9.2f}{1e6 * wall / self._samples:11.1f}  {peer}{wall / loop:11.2f}")
        times = self.median("ours, a job") / loop
        print(f"ours, a job / plain loop: {times:.2f}, goal at most {LOOP_GOAL:g}")
        ratio = self.median("Ray Data, a job") / self.median("ours, a job")
        print(f"engine_overhead ratio={ratio:.2f} goal={GOAL:g}")


@contextlib.contextmanager
def _ray() -> Iterator[None]:
    """Ray on this machine; two CPUs at most, so that figures of different machines can be compared."""
    ray.init(
        num_cpus=min(2, os.cpu_count() or 1),
        object_store_memory=1 << 30,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="error",
    )
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.op_resource_reservation_enabled = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    time.sleep(1)  # its own processes are still starting
    try:
        yield
    finally:
        ray.shutdown()


def main() -> None:
    """Run the comparison and print it."""
    os.environ.update(RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO="0", RAY_USAGE_STATS_ENABLED="0")
    samples = int(sys.argv[1]) if len(sys.argv) > 1 else SAMPLES
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        contest = Contest(Path(folder), samples)
        contest.warm(WARM_ROUNDS)
        for _ in range(JOB_ROUNDS):
            contest.job()
        contest.report()


if __name__ == "__main__":
    main()
