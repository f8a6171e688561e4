"""Work of a mixture: what must be known of each unit, one choice, then a new base of what was taken of each unit."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.frame import Frame
from pipelines.ledger import Commit, StepTally, table_digests
from pipelines.work.bench import Bench, Job, commit_rows
from pipelines.work.gather import publish_table
from schemas.columns import LINEAGE
from schemas.errors import RunError, StageError
from schemas.keys import MAX_BYTES, repeat_key, shortened
from schemas.lineage import append_ancestor
from stages.base import Choice


def measure_work(bench: Bench, job: Job, model: Any) -> Commit:
    """What the choice needs to know of a unit's live rows."""
    stage = _stage(job)
    assert job.reading is not None
    frame = Frame(bench.ledger, job.reading)
    table = frame.table(stage.measured(), np.flatnonzero(frame.live))
    return publish_table(bench, stage.partial(job.inputs["name"], table))


def choose_work(bench: Bench, job: Job, model: Any) -> Commit:
    """How often each row of each unit is taken: one row group for each unit, in the order of the sources."""
    stage = _stage(job)
    units: dict[str, list[str]] = job.inputs["partials"]  # none for a source without any rows
    partials = {
        name: [bench.ledger.read(fp).replace_schema_metadata(None) for fp in fps] for name, fps in units.items()
    }
    lengths = [len(table) for tables in partials.values() for table in tables]
    try:
        chosen, shares = stage.merge(partials)
    except StageError as error:
        raise RunError(error.message, error.hint) from None
    columns = {
        "copies": pa.array(np.concatenate([found.copies for found in chosen.values()])),
        "unmeasured": pa.array(np.concatenate([found.unmeasured for found in chosen.values()])),
    }
    table = pa.table(columns)
    facts = {"shares": [share._asdict() for share in shares]}
    commit = Commit(job.fp, len(table), len(table), digests=table_digests(table, skip=()), facts=facts)
    return bench.ledger.publish(commit, table, lengths)


def take_work(bench: Bench, job: Job, model: Any) -> Commit:
    """A new base: each taken row points to its parent's, once for each time that it was taken."""
    [step], stage = job.steps, _stage(job)
    assert job.reading is not None
    frame = Frame(bench.ledger, job.reading)
    choice = bench.ledger.read(job.inputs["choice"], groups=[job.inputs["group"]])
    copies, unmeasured = (choice.column(name).to_numpy() for name in ("copies", "unmeasured"))
    live = np.flatnonzero(frame.live)
    rows = np.repeat(live, copies)
    before = frame.keys.take(pa.array(rows))
    keys = _repeated(stage.keys(job.inputs["name"], before), copies)
    lost = live[unmeasured]
    columns = {
        "key": pa.concat_arrays([keys, frame.keys.take(pa.array(lost))]),
        "_row": pa.array(np.concatenate([rows, lost]).astype(np.int32)),
        "order": pa.concat_arrays([stage.order(keys), pa.array(np.zeros(len(lost), np.int64))]),
        "lineage": pa.concat_arrays([_lineage(frame, step.name, rows, before, keys), pa.nulls(len(lost), LINEAGE)]),
    }
    taken = int((copies > 0).sum())
    tally = StepTally(step.name, read=len(live), kept=len(rows))
    tally.left, tally.repeated = len(live) - taken - len(lost), len(rows) - taken
    if len(lost):
        tally.rejected["unmeasured"] = len(lost)
    drops = {len(rows) + i: (step.name, "unmeasured", "") for i in range(len(lost))}
    alive = np.arange(len(rows) + len(lost)) < len(rows)
    return commit_rows(bench, columns, len(alive), alive, drops, (tally,))


def _stage(job: Job) -> Choice:
    [step] = job.steps
    assert isinstance(step.stage, Choice)
    return step.stage


def _repeated(keys: pa.Array, copies: npt.NDArray[np.int32]) -> pa.Array:
    """Keys that no two rows share: those of repeated draws end in their number, and all are short enough."""
    ends = np.cumsum(copies)
    number = np.arange(len(keys)) - np.repeat(ends - copies, copies)
    long = pc.greater(pc.binary_length(keys), MAX_BYTES).to_numpy(zero_copy_only=False)
    repeated = pc.match_substring_regex(keys, r"~\d+$").to_numpy(zero_copy_only=False)
    special = np.flatnonzero(long | repeated | (number > 0))
    if not len(special):
        return keys
    mask = np.zeros(len(keys), bool)
    mask[special] = True
    found = zip(keys.take(pa.array(special)).to_pylist(), number[special].tolist(), strict=True)
    changed = [repeat_key(shortened(key), n) for key, n in found]
    return pc.replace_with_mask(keys, pa.array(mask), pa.array(changed, pa.string()))


def _lineage(frame: Frame, step: str, rows: npt.NDArray[np.int64], before: pa.Array, keys: pa.Array) -> pa.Array:
    """The lineage of the taken rows; the key that one had before is an ancestor where it is another one now."""
    held = frame.array("lineage", LINEAGE).take(pa.array(rows))
    changed = pc.not_equal(before, keys)
    if not pc.any(changed).as_py():
        return held.cast(LINEAGE)
    count = len(keys)
    entry = {"step": pa.array([step]).take(pa.array(np.zeros(count, np.int32))), "key": before}
    longer = append_ancestor(held, {**entry, "dataset": pa.nulls(count, pa.string())})
    return pc.if_else(changed, longer, held)
