"""The work on one unit: what runs in a worker, in the same way for every engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pipelines.ledger import Commit
from pipelines.work.bench import Bench, Done, Job
from pipelines.work.combine import bucket_work, scatter_work
from pipelines.work.gather import apply_work, merge_work, partial_work
from pipelines.work.make import expand_work, source_work
from pipelines.work.mix import choose_work, measure_work, take_work
from pipelines.work.pack import layout_work, pack_rows_work, rejects_work, shard_work
from pipelines.work.rows import batch_work, rows_work
from schemas.store import Store

WORK: dict[str, Callable[[Bench, Job, Any], Commit]] = {
    "source": source_work,
    "rows": rows_work,
    "batch": batch_work,
    "expand": expand_work,
    "partial": partial_work,
    "merge": merge_work,
    "apply": apply_work,
    "scatter": scatter_work,
    "bucket": bucket_work,
    "measure": measure_work,
    "choose": choose_work,
    "take": take_work,
    "pack_rows": pack_rows_work,
    "layout": layout_work,
    "shard": shard_work,
    "rejects": rejects_work,
}


def run_job(store: Store, job: Job, model: Any = None) -> Done:
    """Do a job and publish its commit."""
    bench = Bench(store, job)
    try:
        commit = WORK[job.work](bench, job, model)
        return Done(commit, tuple(bench.notes))
    finally:
        bench.close()
