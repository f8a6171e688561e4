"""Work of a combine: units are cut into buckets by the hash of a column, and each bucket becomes a new unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.frame import Frame
from pipelines.ledger import Commit, StepTally, table_digests
from pipelines.work.bench import Bench, Job, check_reason, commit_rows
from schemas.columns import PARTS
from schemas.digest import draws
from stages.base import Combine


def whole_rows(frame: Frame, types: dict[str, pa.DataType], rows: np.ndarray[Any, Any]) -> pa.Table:
    """Some rows of a unit with all their columns (structs nested) and their parts."""
    taken = pa.array(rows)
    arrays = {"key": frame.keys.take(taken)}
    for name, kind in types.items():
        array = frame.array(name, kind)
        arrays[name] = (array if array.type == kind else conform(array, kind)).take(taken)
    arrays["parts"] = frame.part_column(rows)
    return pa.table(arrays)


def conform(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """An array as a wider type: structs gain null fields."""
    if pa.types.is_struct(kind) and pa.types.is_struct(array.type):
        held = {array.type.field(i).name: child for i, child in enumerate(array.flatten())}
        fields = [kind.field(i) for i in range(kind.num_fields)]
        children = [conform(held[f.name], f.type) if f.name in held else pa.nulls(len(array), f.type) for f in fields]
        return pa.StructArray.from_arrays(children, fields=fields)
    return array.cast(kind)


def scatter_work(bench: Bench, job: Job, model: Any) -> Commit:
    """Write a unit's live rows bucket by bucket; each bucket is a row group."""
    assert job.reading is not None
    frame = Frame(bench.ledger, job.reading)
    buckets: int = job.inputs["buckets"]
    table = whole_rows(frame, job.inputs["types"], np.flatnonzero(frame.live))
    values = frame.array(job.inputs["on"]).filter(pa.array(frame.live)).to_pylist()
    bucket = draws(0, "bucket", (str(value) for value in values)) % buckets
    order = np.argsort(bucket, kind="stable")
    counts = np.bincount(bucket, minlength=buckets)
    filled = np.cumsum(counts > 0) - 1
    facts = {"groups": np.where(counts > 0, filled, -1).tolist()}
    table = table.take(pa.array(order))
    commit = Commit(job.fp, len(table), len(table), digests=table_digests(table), facts=facts)
    return bench.ledger.publish(commit, table, [int(n) for n in counts if n])


def bucket_work(bench: Bench, job: Job, model: Any) -> Commit:
    """Combine the rows of one bucket; what the stage drops stays as dead rows."""
    [step] = job.steps
    stage = step.stage
    assert isinstance(stage, Combine)
    inputs = {}
    for name, pieces in job.inputs["pieces"].items():
        types = {"key": pa.string(), **job.inputs["types"][name], "parts": PARTS}
        empty = pa.schema(list(types.items())).empty_table()
        tables = [bench.ledger.read(fp, groups=[group]).replace_schema_metadata(None) for fp, group in pieces]
        inputs[name] = pa.concat_tables([empty, *tables])
    result = stage.rows(inputs)
    tally = StepTally(step.name, read=len(result))
    drops = {}
    reasons = result.column("_drop").to_pylist() if "_drop" in result.column_names else []
    for row, reason in enumerate(reasons):
        if reason is not None:
            check_reason(step, reason)
            drops[row] = (step.name, reason, "")
            tally.rejected[reason] = tally.rejected.get(reason, 0) + 1
    tally.kept = len(result) - len(drops)
    live = np.ones(len(result), dtype=bool)
    live[list(drops)] = False
    types = {"key": pa.string(), **job.inputs["result"], "parts": PARTS}
    columns = {n: conform(result.column(n).combine_chunks(), t) for n, t in types.items() if n in result.column_names}
    return commit_rows(bench, columns, len(result), live, drops, (tally,))
