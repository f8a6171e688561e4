"""Regenerating a mixture against webdataset doing the same: python -m benchmarks.mixture

20 % of the samples of ten published shards, shuffled together, every record written anew, fsynced. Ours is a whole run
of a recipe with `mix` in this process: plan, choice, commits, shards with index, digests and manifest, in a store that
is new each time. webdataset reads all tars, parses every record, chooses by the same kind of draw, keeps what it chose
in memory, shuffles, and writes records and media. A copy of the result with its fsync stands beside it. The page cache
is warm; with --cold it is emptied before each run (needs root).
"""

from __future__ import annotations

import json
import os
import random
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import webdataset

from benchmarks._harness import Timing, compare, report
from benchmarks.engine_overhead import Quiet
from benchmarks.shards_write import make_samples
from pipelines.engine import Engine
from pipelines.executors import LocalExecutor
from pipelines.plan import make_plan
from schemas.digest import draws
from schemas.shards import ShardWriter
from schemas.store import Store

GOAL = 30.0
COPY_GOAL = 1.5
SHARDS = 10
SHARE = 0.2

INGEST = """
store: {folder}/store
flows: {{all: [ingest.webdataset: {{path: {folder}/tars, source: all, unit: {unit}}}]}}
outputs: {{all: {{pack: all, to: {folder}/all, shard: {{samples: {unit}}}}}}}
"""
MIX = """
store: {folder}/mixing
flows:
  all: [ingest.dataset: {{path: {folder}/all}}]
  mixed: [mix: {{sources: {{all: }}, total: {total}}}]
outputs: {{mixed: {{pack: mixed, to: {folder}/mixed, shard: {{samples: {unit}}}}}}}
"""


def run(recipe: str, folder: Path, unit: int, total: int = 0) -> None:
    """A recipe from beginning to end, in this process."""
    plan = make_plan("mixture.yaml", recipe.format(folder=folder, unit=unit, total=total))
    store = Store(plan.recipe.store)
    Engine(plan, store, LocalExecutor(store, plan.models), Quiet()).run()


def publish(folder: Path, unit: int, size: int) -> None:
    """Ten published shards of `unit` samples."""
    (folder / "tars").mkdir()
    samples = make_samples(unit * SHARDS, size)
    for shard in range(SHARDS):
        with ShardWriter(folder / "tars" / f"{shard:02d}.tar") as writer:
            names, data = [], []
            for key, record, media in samples[shard * unit : (shard + 1) * unit]:
                names += [f"{key}.json", f"{key}.jpg"]
                data += [record, media]
            writer.add_columns(names, data)
    run(INGEST, folder, unit)
    shutil.rmtree(folder / "tars")


def write_peer(folder: Path, unit: int) -> None:
    """The same by webdataset."""
    bound = int(SHARE * 2**63)
    chosen: list[dict[str, Any]] = []
    for path in sorted((folder / "all" / "latest" / "shards").iterdir()):
        for sample in webdataset.WebDataset(str(path), shardshuffle=False):
            record = json.loads(sample["json"])
            if draws(0, "peer", [sample["__key__"]])[0] < bound:
                chosen.append({"__key__": sample["__key__"], "jpg": sample["jpg"], "json": json.dumps(record).encode()})
    random.Random(0).shuffle(chosen)
    (folder / "peer").mkdir()
    for start in range(0, len(chosen), unit):
        with open(folder / "peer" / f"{start:08d}.tar", "wb") as file:
            with webdataset.TarWriter(file) as writer:
                for sample in chosen[start : start + unit]:
                    writer.write(sample)
            file.flush()
            os.fsync(file.fileno())


def copy(folder: Path) -> None:
    """`cp` of the result, with its fsync."""
    (folder / "copy").mkdir()
    for path in sorted((folder / "mixed" / "latest" / "shards").iterdir()):
        shutil.copyfile(path, folder / "copy" / path.name)
        with open(folder / "copy" / path.name, "rb") as file:
            os.fsync(file.fileno())


class Field:
    """Ten published shards in a folder, and what is made of them."""

    def __init__(self, folder: Path, unit: int, size: int, cold: bool) -> None:
        self._folder, self._unit, self._cold = folder, unit, cold
        self.total = int(SHARE * unit * SHARDS)
        publish(folder, unit, size)

    def clear(self, *kept: str) -> None:
        """Remove what was made; empty the page cache if that is wanted."""
        for made in {"mixing", "mixed", "peer", "copy"} - set(kept):
            shutil.rmtree(self._folder / made, ignore_errors=True)
        os.sync()
        if self._cold:
            Path("/proc/sys/vm/drop_caches").write_text("1")

    def ours(self) -> None:
        """The mixture by a recipe."""
        run(MIX, self._folder, self._unit, self.total)

    def peer(self) -> None:
        """The mixture by webdataset."""
        write_peer(self._folder, self._unit)

    def copy_seconds(self) -> float:
        """Median time of a copy of what ours makes."""
        self.clear()
        self.ours()
        seconds = []
        for _ in range(5):
            self.clear("mixed")
            start = time.perf_counter()
            copy(self._folder)
            seconds.append(time.perf_counter() - start)
        return statistics.median(seconds)


def measure(label: str, unit: int, size: int, cold: bool) -> tuple[Timing, float]:
    """Ours against webdataset, and our time as a multiple of a copy's."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name:
        field = Field(Path(name), unit, size, cold)
        timing = compare(label, field.total, field.ours, field.peer, rounds=5, before=field.clear)
        return timing, timing.us / field.copy_seconds()


def main() -> None:
    """Run the comparison and print it."""
    cold = "--cold" in sys.argv
    small, small_copies = measure("3 KB", 10_000, 3_000, cold)
    large, large_copies = measure("300 KB", 500, 300_000, cold)
    for label, copies, goal in (("3 KB", small_copies, ""), ("300 KB", large_copies, f", goal {COPY_GOAL:g}")):
        print(f"{label}: ours takes {copies:.1f} times as long as a copy of the same bytes{goal}")
    report("mixture", [small, large], GOAL, peer="webdataset")


if __name__ == "__main__":
    main()
