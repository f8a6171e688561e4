"""Work of a gather: summaries of units, their merge, and its application to each unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.frame import Frame
from pipelines.ledger import Commit, table_digests
from pipelines.work.bench import Bench, Job
from pipelines.work.rows import Rows, whole_tables
from stages.base import Gather


def partial_work(bench: Bench, job: Job, model: Any) -> Commit:
    [step] = job.steps
    stage = step.stage
    assert isinstance(stage, Gather)
    assert job.reading is not None
    frame = Frame(bench.ledger, job.reading)
    reads = {path: kind for path, kind in stage.reads().fields.items() if path != "key"}
    return publish_table(bench, stage.partial(frame.table(reads, np.flatnonzero(frame.live))))


def merge_work(bench: Bench, job: Job, model: Any) -> Commit:
    [step] = job.steps
    stage = step.stage
    assert isinstance(stage, Gather)
    return publish_table(bench, stage.merge(bench.ledger.read(fp) for fp in job.inputs["partials"]))


def publish_table(bench: Bench, table: pa.Table) -> Commit:
    commit = Commit(bench.job.fp, len(table), len(table), digests=table_digests(table, skip=()))
    return bench.ledger.publish(commit, table)


def apply_work(bench: Bench, job: Job, model: Any) -> Commit:
    rows = Rows(bench, job.steps)
    [step], [tally] = job.steps, rows.tallies
    stage = step.stage
    assert isinstance(stage, Gather)
    merged = bench.ledger.read(job.inputs["merged"])
    whole_tables(bench, rows, step, tally, lambda table: stage.apply(merged, table))
    return rows.commit()
