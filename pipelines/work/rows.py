"""Work that makes layers: maps, columnar steps and batches with a model.

Here and only here is the loop over samples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.frame import Frame, part_rows
from pipelines.ledger import Commit, StepTally
from pipelines.step import Step
from pipelines.work.bench import (
    BROKEN,
    DEADLY,
    WRONG_TYPE,
    Bench,
    Job,
    MediaSink,
    again,
    check_reason,
    checked,
    commit_rows,
    end_if_broken,
    guard,
)
from pipelines.work.typed import typed_array
from schemas.errors import OmnicurateError, StageError, nearest
from schemas.sample import Part, Sample
from stages.base import Batch, Columnar, Map, New, Reject


class Rows:
    """The rows of a unit while the steps of a segment work on them."""

    def __init__(self, bench: Bench, steps: Sequence[Step]) -> None:
        self.bench = bench
        assert bench.job.reading is not None
        self.frame = Frame(bench.ledger, bench.job.reading)
        self.keys: list[str] = self.frame.keys.to_pylist()
        self.live = self.frame.live.copy()
        self.drops: dict[int, tuple[str, str, str]] = {}
        self.tallies = [StepTally(step.name) for step in steps]
        self.written: dict[str, list[Any]] = {}
        self.types: dict[str, pa.DataType] = {}
        self.current: dict[str, None] = {}  # paths whose step has run; until then, the unit's own values stand
        self.new_parts: dict[int, dict[str, Part]] = {}
        self.sink = MediaSink(bench.store)
        wants_parts = any(step.stage.reads().parts for step in steps)
        self.parts = self.frame.parts() if wants_parts else None
        for step in steps:
            for name, kind in step.columns_written().items():
                own = name == step.name and pa.types.is_struct(kind)
                fields = (
                    [(f"{name}.{kind.field(i).name}", kind.field(i).type) for i in range(kind.num_fields)]
                    if own
                    else [(name, kind)]
                )
                for path, leaf in fields:
                    self.types[path] = leaf
                    self.written[path] = [None] * self.frame.rows

    def slots(self, step: Step) -> dict[str, str]:
        """Relative column name -> path, for what a step writes."""
        return {
            name: (f"{step.name}.{name}" if f"{step.name}.{name}" in self.types else name)
            for name in step.stage.writes().fields
        }

    def values(self, path: str) -> list[Any]:
        """A column as Python values over all rows, as it stands now."""
        if path in self.current:
            return self.written[path]
        below = [p for p in self.current if p.startswith(path + ".")]
        if below:
            names = [p[len(path) + 1 :] for p in below]
            return [dict(zip(names, row, strict=True)) for row in zip(*(self.written[p] for p in below), strict=True)]
        found: list[Any] = self.frame.array(path).to_pylist()
        return found

    def table(self, paths: Mapping[str, pa.DataType], rows: np.ndarray[Any, Any]) -> pa.Table:
        """A flat table of some rows, as they stand now."""
        taken = pa.array(rows)
        arrays = {"key": self.frame.keys.take(taken)}
        for path, kind in paths.items():
            if path in self.current:
                arrays[path] = pa.array([self.written[path][row] for row in rows], self.types[path])
            elif any(p.startswith(path + ".") for p in self.current):
                values = self.values(path)
                arrays[path] = pa.array([values[row] for row in rows])
            else:
                arrays[path] = self.frame.array(path, kind).take(taken)
        return pa.table(arrays)

    def drop(self, row: int, step: Step, tally: StepTally, reject: Reject, error: bool = False) -> None:
        """Reject a row at a step."""
        self.live[row] = False
        self.drops[row] = (step.name, reject.reason, reject.detail)
        tally.rejected[reject.reason] = tally.rejected.get(reject.reason, 0) + 1
        tally.errors += error

    def accept(self, row: int, step: Step, slots: Mapping[str, str], result: New, sample: Sample | None) -> None:
        """Take over what a step made of a row."""
        try:
            written = {slots[name]: value for name, value in result.columns.items()}
        except KeyError:
            wrong = next(name for name in result.columns if name not in slots)
            message = f"{step.use} wrote the column {wrong!r} that it does not declare"
            raise StageError(message, nearest(wrong, slots)) from None
        for path, value in written.items():
            self.written[path][row] = value
        if result.media or result.parts:
            undeclared = set(result.media) | set(result.parts)
            undeclared -= set(step.stage.writes().parts)
            if undeclared:
                raise StageError(
                    f"{step.use} made the part {min(undeclared)!r} that it does not declare",
                    "add it to writes()",
                )
            if result.media:
                self.sink.add(row, self.keys[row], result.media)
            if result.parts:
                self.new_parts.setdefault(row, {}).update(result.parts)
        if sample is not None:
            sample.write(written, result.parts)

    def commit(self, work: str = "") -> Commit:
        """Write the layer."""
        self.bench.in_hand(())
        columns = self._columns()
        made, media = self.sink.close()
        for row, parts in made.items():
            self.new_parts.setdefault(row, {}).update(parts)
        if self.new_parts:
            columns["parts"] = part_rows(self.new_parts.get(row) for row in range(self.frame.rows))
        return commit_rows(self.bench, columns, self.frame.rows, self.live, self.drops, tuple(self.tallies), media)

    def _columns(self) -> dict[str, pa.Array]:
        leaves = {path: self._array(path) for path in self.written}
        columns: dict[str, pa.Array] = {}
        for path in leaves:
            top, _, inner = path.partition(".")
            if not inner:
                columns[top] = leaves[path]
            elif top not in columns:
                below = [p for p in leaves if p.startswith(top + ".")]
                columns[top] = pa.StructArray.from_arrays(
                    [leaves[p] for p in below], [p[len(top) + 1 :] for p in below]
                )
        return columns

    def _array(self, path: str) -> pa.Array:
        """Values of the wrong type become rejects of the step that wrote them."""

        def wrong(row: int, detail: str) -> None:
            if self.live[row]:
                for tally in self.tallies[at:]:  # it went through the later steps before this came to light
                    tally.kept -= 1
                for tally in self.tallies[at + 1 :]:
                    tally.read -= 1
                self.drop(row, steps[at], self.tallies[at], Reject(WRONG_TYPE, f"{path}: {detail}"), error=True)

        steps = self.bench.job.steps
        at = max(i for i, step in enumerate(steps) if path.split(".")[0] in step.columns_written())
        return typed_array(self.written[path], self.types[path], wrong)


def rows_work(bench: Bench, job: Job, model: Any) -> Commit:
    rows = Rows(bench, job.steps)
    pending = list(zip(job.steps, rows.tallies, strict=True))
    while pending:
        if isinstance(pending[0][0].stage, Map):
            run = 1
            while run < len(pending) and isinstance(pending[run][0].stage, Map):
                run += 1
            _map(bench, rows, pending[:run])
            for step, _ in pending[:run]:
                rows.current.update(dict.fromkeys(rows.slots(step).values()))
            pending = pending[run:]
        else:
            step, tally = pending.pop(0)
            assert isinstance(step.stage, Columnar)
            whole_tables(bench, rows, step, tally, step.stage.table)
    return rows.commit()


def _map(bench: Bench, rows: Rows, run: Sequence[tuple[Step, StepTally]]) -> None:
    paths = {path for step, _ in run for path in step.stage.reads().fields} - {"key"}
    lists = {path: rows.values(path) for path in paths}
    lists["key"] = rows.keys
    chain = [(step, tally, step.stage.each, rows.slots(step)) for step, tally in run if isinstance(step.stage, Map)]
    reader, keys, parts, deadly = bench.reader, rows.keys, rows.parts, bench.job.deadly
    for row in np.flatnonzero(rows.live).tolist():
        bench.in_hand((row,))
        sample = Sample(keys[row], lists, row, parts[row] if parts else None, reader)
        for step, tally, each, slots in chain:
            tally.read += 1
            if row in deadly:
                rows.drop(row, step, tally, Reject(DEADLY), error=True)
                break
            try:
                result: Any = each(sample)
            except BROKEN as error:
                result, failed = guard(bench, step, keys[row], partial(again, error))
                rows.drop(row, step, tally, result, failed)
                break
            if type(result) is not New and isinstance(checked(step, result), Reject):
                rows.drop(row, step, tally, result)
                break
            tally.kept += 1
            if result.columns or result.media or result.parts:
                rows.accept(row, step, slots, result, sample)


def whole_tables(bench: Bench, rows: Rows, step: Step, tally: StepTally, call: Callable[[pa.Table], pa.Table]) -> None:
    """A columnar step: on all live rows at once, and on halves when that fails, down to the bad sample."""
    reads = {path: kind for path, kind in step.stage.reads().fields.items() if path != "key"}
    slots = rows.slots(step)
    live = np.flatnonzero(rows.live)
    tally.read += len(live)
    for row in sorted(bench.job.deadly.intersection(live.tolist())):
        rows.drop(row, step, tally, Reject(DEADLY), error=True)
    live = np.flatnonzero(rows.live)
    for row in sorted(bench.job.probe.intersection(live.tolist())):
        bench.in_hand((row,))
        with contextlib.suppress(Exception):
            call(rows.table(reads, np.array([row])))

    def attempt(some: np.ndarray[Any, Any]) -> None:
        if not len(some):
            return
        bench.in_hand(some.tolist())
        try:
            result = call(rows.table(reads, some))
        except (OmnicurateError, MemoryError):
            raise
        except BROKEN as error:
            if len(some) > 1:
                middle = len(some) // 2
                attempt(some[:middle])
                attempt(some[middle:])
            else:
                reject, failed = guard(bench, step, rows.keys[some[0]], partial(again, error))
                rows.drop(int(some[0]), step, tally, reject, failed)
            return
        if len(result) != len(some):
            raise StageError(f"{step.use} returned {len(result)} rows for {len(some)}", "filter with a `_drop` column")
        reasons = result.column("_drop").to_pylist() if "_drop" in result.column_names else None
        for name in result.column_names:
            if name not in ("_drop", "key"):
                if name not in slots:
                    raise StageError(
                        f"{step.use} wrote the column {name!r} that it does not declare", nearest(name, slots)
                    )
                target = rows.written[slots[name]]
                for row, value in zip(some.tolist(), result.column(name).to_pylist(), strict=True):
                    target[row] = value
        for row, reason in zip(some.tolist(), reasons or [], strict=False):
            if reason is not None:
                check_reason(step, reason)
                rows.drop(row, step, tally, Reject(reason))

    attempt(live)
    rows.current.update(dict.fromkeys(slots.values()))
    tally.kept = tally.read - sum(tally.rejected.values())


def batch_work(bench: Bench, job: Job, model: Any) -> Commit:
    rows = Rows(bench, job.steps)
    [step], [tally] = job.steps, rows.tallies
    stage = step.stage
    assert isinstance(stage, Batch)
    slots = rows.slots(step)
    lists = {path: rows.values(path) for path in stage.reads().fields if path != "key"}
    lists["key"] = rows.keys
    costs: list[tuple[int, int]] = []
    samples: dict[int, Sample] = {}

    def settle(row: int, result: Any, failed: bool = False) -> None:
        if type(result) is Reject:
            rows.drop(row, step, tally, result, failed)
        else:
            tally.kept += 1
            rows.accept(row, step, slots, result, None)
        samples.pop(row, None)

    def attempt(some: list[int]) -> None:
        bench.in_hand(some)
        try:
            results = stage.batch(model, [samples[row] for row in some])
        except BROKEN as error:
            end_if_broken(error)
            if len(some) == 1 or isinstance(error, (OmnicurateError, MemoryError)):
                result, failed = guard(bench, step, rows.keys[some[0]], partial(again, error))
                settle(some[0], result, failed)
                return
            middle = len(some) // 2
            attempt(some[:middle])
            attempt(some[middle:])
            return
        if len(results) != len(some):
            raise StageError(f"{step.use} returned {len(results)} results for {len(some)} samples")
        for row, result in zip(some, results, strict=True):
            settle(row, checked(step, result))

    for row in np.flatnonzero(rows.live).tolist():
        tally.read += 1
        sample = Sample(rows.keys[row], lists, row, rows.parts[row] if rows.parts else None, bench.reader)
        samples[row] = sample
        if row in job.deadly:
            settle(row, Reject(DEADLY), True)
            continue
        bench.in_hand((row,))
        cost, failed = guard(bench, step, rows.keys[row], partial(stage.cost, sample))
        if type(cost) is Reject:
            settle(row, cost, failed)
        else:
            costs.append((cost, row))
    for _, row in sorted(costs):
        if row in job.probe:
            bench.in_hand((row,))
            try:
                stage.batch(model, [samples[row]])
            except BROKEN as error:
                end_if_broken(error)
    for batch in batches(costs, stage.budget, job.alone):
        attempt(batch)
    return rows.commit()


def batches(costs: Sequence[tuple[int, int]], budget: int, alone: frozenset[int] = frozenset()) -> Iterator[list[int]]:
    """Rows in batches of like cost: (cost, row) sorted, cut where the sum would pass the budget."""
    batch: list[int] = []
    total = 0
    for cost, row in sorted(costs):
        if batch and (total + cost > budget or row in alone or batch[-1] in alone):
            yield batch
            batch, total = [], 0
        batch.append(row)
        total += cost
    if batch:
        yield batch
