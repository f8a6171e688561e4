"""Work that makes rows: sources and expands. Rejects stand in a base as dead rows, so that nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.frame import part_rows
from pipelines.ledger import Commit, Ledger, StepTally, table_digests
from pipelines.step import Step
from pipelines.work.bench import (
    BROKEN,
    DEADLY,
    NO_CHILDREN,
    WRONG_TYPE,
    Bench,
    Job,
    MediaSink,
    again,
    checked,
    commit_rows,
    guard,
)
from pipelines.work.rows import Rows
from pipelines.work.typed import typed_array
from schemas.columns import LINEAGE
from schemas.digest import digest
from schemas.keys import child_key, make_key
from schemas.lineage import append_ancestor
from schemas.sample import Part, Sample
from stages.base import Expand, New, Origin, Reject, Source


class Made:
    """New rows: a base in the making. Rejects stand in it as dead rows, so that nothing is lost."""

    def __init__(self, bench: Bench, step: Step, defaults: Mapping[str, Any] | None = None) -> None:
        self.bench = bench
        self.step = step
        self.types = step.columns_written()
        self.own = step.name if step.name in self.types and pa.types.is_struct(self.types[step.name]) else None
        self.fields = step.stage.writes().fields
        self.defaults = dict(defaults or {})
        self.types.update({name: pa.string() for name in self.defaults if name not in self.types})
        self.keys: list[str] = []
        self.rows: list[int] = []
        self.columns: list[Mapping[str, Any]] = []
        self.parts: list[Mapping[str, Part]] = []
        self.drops: dict[int, tuple[str, str, str]] = {}
        self.sink = MediaSink(bench.store)

    def __len__(self) -> int:
        return len(self.keys)

    def add(self, key: str, result: New | Reject, row: int = -1) -> None:
        """Append a row; `row` is its parent's."""
        index = len(self.keys)
        self.keys.append(key)
        self.rows.append(row)
        if isinstance(result, Reject):
            self.drops[index] = (self.step.name, result.reason, result.detail)
            self.columns.append({})
            self.parts.append({})
            return
        assert isinstance(result, New)
        if result.media:
            self.sink.add(index, key, result.media)
        self.columns.append(result.columns)
        self.parts.append(result.parts)

    def commit(
        self, tallies: tuple[StepTally, ...], fp: str | None = None, more: Mapping[str, pa.Array] = {}
    ) -> Commit:
        """Publish the base; `more` columns are not the stage's."""
        self.bench.in_hand(())
        made, media = self.sink.close()
        columns: dict[str, pa.Array] = {"key": pa.array(self.keys, pa.string()), **more}
        if self.rows and self.rows[0] >= 0:
            columns["_row"] = pa.array(self.rows, pa.int32())
        for name, kind in self.types.items():
            if name == self.own:
                fields = [kind.field(i) for i in range(kind.num_fields)]
                arrays = [self._array(f.name, f.type, tallies) for f in fields]
                columns[name] = pa.StructArray.from_arrays(arrays, fields=fields)
            else:
                columns[name] = self._array(name, kind, tallies)
        if made or any(self.parts):
            merged = [{**parts, **made.get(i, {})} for i, parts in enumerate(self.parts)]
            columns["parts"] = part_rows(merged)
        live = np.ones(len(self.keys), dtype=bool)
        live[list(self.drops)] = False
        return commit_rows(self.bench, columns, len(self.keys), live, self.drops, tallies, media, fp)

    def _array(self, name: str, kind: pa.DataType, tallies: tuple[StepTally, ...]) -> pa.Array:
        default = self.defaults.get(name)
        values = [row.get(name) for row in self.columns]
        if default is not None:
            values = [default if value is None else value for value in values]

        def wrong(index: int, detail: str) -> None:
            if index not in self.drops:
                self.drops[index] = (self.step.name, WRONG_TYPE, f"{name}: {detail}")
                tallies[0].kept -= 1
                tallies[0].errors += 1
                tallies[0].rejected[WRONG_TYPE] = tallies[0].rejected.get(WRONG_TYPE, 0) + 1

        return typed_array(values, kind, wrong)


def expand_work(bench: Bench, job: Job, model: Any) -> Commit:
    rows = Rows(bench, job.steps)
    [step], [tally] = job.steps, rows.tallies
    stage = step.stage
    assert isinstance(stage, Expand)
    lists = {path: rows.values(path) for path in stage.reads().fields if path != "key"}
    lists["key"] = rows.keys
    made = Made(bench, step)
    for row in np.flatnonzero(rows.live).tolist():
        tally.read += 1
        key = rows.keys[row]
        bench.in_hand((row,))
        sample = Sample(key, lists, row, rows.parts[row] if rows.parts else None, bench.reader)
        result: Any = Reject(DEADLY)
        failed = True
        if row not in job.deadly:
            result, failed = guard(bench, step, key, partial(_children, step, stage, sample))
        if isinstance(result, Reject):
            made.add(key, result, row)
            tally.rejected[result.reason] = tally.rejected.get(result.reason, 0) + 1
            tally.errors += failed
            continue
        tally.kept += 1
        for index, child in enumerate(result):
            made.add(child_key(key, index), child, row)
    parents = pa.array(made.rows, pa.int32())
    entry = {
        "step": pa.array([step.name] * len(made), pa.string()),
        "key": rows.frame.keys.take(parents),
        "dataset": pa.nulls(len(made), pa.string()),
    }
    held = rows.frame.array("lineage", LINEAGE).take(parents)
    return made.commit((tally,), more={"lineage": append_ancestor(held, entry)})


def _children(step: Step, stage: Expand, sample: Sample) -> list[New] | Reject:
    result = stage.each(sample)
    if isinstance(result, Reject):
        return checked(step, result)  # type: ignore[no-any-return]
    return [checked(step, child) for child in result] or Reject(NO_CHILDREN)


def unit_fp(fp: str, index: int) -> str:
    """The fingerprint of the `index`-th unit that a source job makes."""
    return digest(f"{fp}:{index}".encode()).hex()


def source_work(bench: Bench, job: Job, model: Any) -> Commit:
    """Read a group of origins into units; the job's own commit lists them."""
    [step] = job.steps
    stage = step.stage
    assert isinstance(stage, Source)
    limit: int | None = job.inputs.get("limit")
    defaults = {"source": stage.source, "license": stage.license, "origin": stage.origin}
    units: list[Commit] = []
    total = 0
    made, tally = Made(bench, step, defaults), StepTally(step.name)

    def cut() -> None:
        nonlocal made, tally
        if len(made):
            units.append(made.commit((tally,), unit_fp(job.fp, len(units))))
        made, tally = Made(bench, step, defaults), StepTally(step.name)

    def publish(table: pa.Table) -> None:
        fp = unit_fp(job.fp, len(units))
        units.append(commit_table(bench, step, stage.source, table, defaults, fp))

    for index, origin in enumerate(job.inputs["origins"]):
        bench.in_hand((index,))
        deadly = index in job.deadly
        for result, failed in _read_origin(bench, step, stage, origin, deadly):
            if limit is not None and total >= limit:
                break
            if isinstance(result, pa.Table):
                cut()
                rows = result if limit is None else result.slice(0, limit - total)
                total += len(rows)
                for start in range(0, len(rows), stage.unit):
                    publish(rows.slice(start, stage.unit))
                continue
            total += 1
            tally.read += 1
            local = result.key if result.key is not None else origin.name
            if type(result) is Reject:
                tally.rejected[result.reason] = tally.rejected.get(result.reason, 0) + 1
                tally.errors += failed
            else:
                tally.kept += 1
            made.add(make_key(stage.source, local), result)
            if len(made) >= stage.unit:
                cut()
    cut()
    listing = pa.table({"unit": pa.array([unit.to_json() for unit in units], pa.binary())})
    commit = Commit(
        job.fp,
        len(units),
        total,
        digests=table_digests(listing),
        media=tuple(m for u in units for m in u.media),
    )
    return bench.ledger.publish(commit, listing)


def commit_table(
    bench: Bench, step: Step, source: str, table: pa.Table, defaults: Mapping[str, Any], fp: str
) -> Commit:
    """Publish a base of rows that came as a table."""
    keys = [make_key(source, local) for local in table.column("key").to_pylist()]
    columns: dict[str, pa.Array] = {"key": pa.array(keys, pa.string())}
    types = {**step.columns_written(), **{name: pa.string() for name in defaults}}
    for name, kind in types.items():
        held = table.column(name).combine_chunks() if name in table.column_names else pa.nulls(len(table), kind)
        default = defaults.get(name)
        columns[name] = held if default is None else held.fill_null(pa.scalar(default, kind))
    tally = StepTally(step.name, len(table), len(table))
    return commit_rows(bench, columns, len(table), np.ones(len(table), dtype=bool), {}, (tally,), fp=fp)


def _read_origin(
    bench: Bench, step: Step, stage: Source, origin: Origin, deadly: bool
) -> Iterator[tuple[New | Reject | pa.Table, bool]]:
    """The rows of an origin; one that breaks from some point on gives what was good and then one reject."""
    if deadly:
        yield Reject(DEADLY), True
        return
    try:
        for result in stage.read(origin):
            yield (result if isinstance(result, pa.Table) else checked(step, result)), False
    except BROKEN as error:
        yield guard(bench, step, origin.name, partial(again, error))


def listed_units(ledger: Ledger, listing: Commit) -> list[Commit]:
    """The unit commits that a source job's commit lists."""
    return [Commit.from_json(raw) for raw in ledger.read(listing.fp).column("unit").to_pylist()]
