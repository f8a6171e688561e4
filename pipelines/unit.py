"""The work on one unit: what runs in a worker, in the same way for every engine.

Here and only here are the loop over samples, the isolation of bad ones, the counting and the writing of layers.
A job is plain data; its result is a commit. A job can run any number of times, anywhere: the first commit wins.
"""

from __future__ import annotations

import mmap
import os
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.frame import Frame, part_rows
from pipelines.ledger import ALL_LIVE, Commit, Ledger, Reading, StepTally, table_digests
from pipelines.plan import Step
from schemas.columns import ANY, DROP, PARTS
from schemas.digest import digest
from schemas.errors import OmnicurateError, SampleError, StageError, nearest
from schemas.keys import child_key, make_key
from schemas.sample import Media, Part, Sample, member_extension
from schemas.shards.writer import Entry, ShardWriter
from schemas.store import STORE_SCHEME, MediaReader, Store
from stages.base import Batch, Columnar, Expand, Gather, Map, New, Origin, Reject, Source, Stage

ERROR = "error"  # the reason of a sample whose step raised an exception
DEADLY = "deadly"  # the reason of a sample that killed its worker three times when it was alone in it
WRONG_TYPE = "wrong_type"
_MAX_NOTES = 20


@dataclass(frozen=True)
class Job:
    """One piece of work for a worker.

    fp: the commit that it makes. work: which function of `WORK` does it. reading: what it opens. inputs: other
    commits or data it needs. crumb: a file for the rows in hand; alone: rows to work on singly because a worker
    died holding them; deadly: rows to reject unseen.
    """

    fp: str
    work: str
    steps: tuple[Step, ...] = ()
    reading: Reading | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    crumb: str | None = None
    alone: frozenset[int] = frozenset()
    deadly: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Note:
    """An exception that became a reject, for the log."""

    step: str
    key: str
    text: str


@dataclass(frozen=True)
class Done:
    """What a job hands back: its commit and what the log should know."""

    commit: Commit
    notes: tuple[Note, ...] = ()


class Bench:
    """Where a worker works: the ledger, open media, the crumb file and the notes of the job in hand."""

    def __init__(self, store: Store, job: Job) -> None:
        self.store = store
        self.ledger = Ledger(store)
        self.job = job
        self.reader = MediaReader(store)
        self.notes: list[Note] = []
        self._crumb = _Crumb(job.crumb) if job.crumb else None

    def in_hand(self, rows: Sequence[int]) -> None:
        """Leave a crumb: should the worker die now, these rows are suspects."""
        if self._crumb:
            self._crumb.write(rows)

    def note(self, step: str, key: str, error: BaseException) -> None:
        """Keep an exception for the log (the first few of a unit)."""
        if len(self.notes) < _MAX_NOTES:
            self.notes.append(Note(step, key, "".join(traceback.format_exception(error))))

    def close(self) -> None:
        """Release files; the crumb goes with a job that ended."""
        self.reader.close()
        if self._crumb:
            self._crumb.close()


class _Crumb:
    _SLOTS = 1024

    def __init__(self, path: str) -> None:
        self._path = path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb+") as file:
            file.truncate(8 * (self._SLOTS + 1))
            self._map = mmap.mmap(file.fileno(), 0)
        self._slots = np.frombuffer(self._map, dtype=np.int64)

    def write(self, rows: Sequence[int]) -> None:
        count = min(len(rows), self._SLOTS)
        self._slots[0] = 0
        self._slots[1 : count + 1] = rows[:count]
        self._slots[0] = count

    def close(self) -> None:
        del self._slots
        self._map.close()
        os.unlink(self._path)


def read_crumb(path: str) -> list[int]:
    """The rows that a dead worker had in hand; empty when it left none. Removes the crumb."""
    try:
        slots = np.fromfile(path, dtype=np.int64)
        os.unlink(path)
    except FileNotFoundError:
        return []
    return slots[1 : int(slots[0]) + 1].tolist() if len(slots) else []


def run_job(store: Store, job: Job, model: Any = None) -> Done:
    """Do a job and publish its commit."""
    bench = Bench(store, job)
    try:
        commit = WORK[job.work](bench, job, model)
        return Done(commit, tuple(bench.notes))
    finally:
        bench.close()


class MediaSink:
    """Media that stages make: one tar in the store, named by its content, written as they come."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._path = store.temporary()
        self._writer: ShardWriter | None = None
        self._rows: list[tuple[int, Part]] = []

    def add(self, row: int, key: str, media: Mapping[str, Media]) -> None:
        """Append the media of one row."""
        if self._writer is None:
            self._writer = ShardWriter(self._path)
        entries = [Entry(f"{key}.{member_extension(n, m.format)}", m.data) for n, m in media.items()]
        for (name, medium), written in zip(media.items(), self._writer.add(entries), strict=True):
            part = Part(name, medium.format, "", written.offset, written.size, digest=written.digest)
            self._rows.append((row, part))

    def close(self) -> tuple[dict[int, dict[str, Part]], tuple[str, ...]]:
        """Publish the tar: parts by row, and the names of the media files."""
        if self._writer is None:
            return {}, ()
        name = f"media/{self._writer.close().digest[:32]}.tar"
        self._store.put_new(name, self._path)
        found: dict[int, dict[str, Part]] = {}
        for row, part in self._rows:
            found.setdefault(row, {})[part.name] = part._replace(uri=STORE_SCHEME + name)
        return found, (name,)


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
        self.new_parts: dict[int, dict[str, Part]] = {}
        self.sink = MediaSink(bench.store)
        wants_parts = any(step.stage.reads().parts for step in steps)
        self.parts = self.frame.parts() if wants_parts else None
        for step in steps:
            for name, kind in step.columns_written().items():
                own = name == step.name and pa.types.is_struct(kind)
                fields = [(f"{name}.{kind.field(i).name}", kind.field(i).type) for i in range(kind.num_fields)] if own else [(name, kind)]
                for path, leaf in fields:
                    self.types[path] = leaf
                    self.written[path] = [None] * self.frame.rows

    def slots(self, step: Step) -> dict[str, str]:
        """Relative column name -> path, for what a step writes."""
        return {name: (f"{step.name}.{name}" if f"{step.name}.{name}" in self.types else name) for name in step.stage.writes().fields}

    def values(self, path: str) -> list[Any]:
        """A column as Python values over all rows, as it stands now."""
        if path in self.written:
            return self.written[path]
        below = [p for p in self.written if p.startswith(path + ".")]
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
            if path in self.written:
                arrays[path] = pa.array([self.written[path][row] for row in rows], self.types[path])
            elif any(p.startswith(path + ".") for p in self.written):
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
        written = {}
        for name, value in result.columns.items():
            try:
                path = slots[name]
            except KeyError:
                raise StageError(f"{step.use} wrote the column {name!r} that it does not declare", nearest(name, slots)) from None
            self.written[path][row] = value
            written[path] = value
        if result.media or result.parts:
            undeclared = set(result.media) | set(result.parts)
            undeclared -= set(step.stage.writes().parts)
            if undeclared:
                raise StageError(f"{step.use} made the part {min(undeclared)!r} that it does not declare", "add it to writes()")
            if result.media:
                self.sink.add(row, self.keys[row], result.media)
            if result.parts:
                self.new_parts.setdefault(row, {}).update(result.parts)
        if sample is not None:
            sample.write(written, result.parts)

    def commit(self, work: str = "") -> Commit:
        """Write the layer."""
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
                columns[top] = pa.StructArray.from_arrays([leaves[p] for p in below], [p[len(top) + 1 :] for p in below])
        return columns

    def _array(self, path: str) -> pa.Array:
        values, kind = self.written[path], self.types[path]
        try:
            return pa.array(values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            return pa.array(self._mend(path, values, kind), kind)

    def _mend(self, path: str, values: list[Any], kind: pa.DataType) -> list[Any]:
        """Values of the wrong type become rejects of the step that wrote them."""
        step = next(s for s in self.bench.job.steps if path.split(".")[0] == s.name or path in s.columns_written())
        tally = next(t for t in self.tallies if t.step == step.name)
        mended = list(values)
        for row, value in enumerate(values):
            try:
                pa.scalar(value, kind)
            except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                mended[row] = None
                if self.live[row]:
                    tally.kept -= 1
                    detail = f"{path}: {type(value).__name__} where {kind} is expected"
                    self.drop(row, step, tally, Reject(WRONG_TYPE, detail), error=True)
        return mended


def commit_rows(
    bench: Bench,
    columns: Mapping[str, pa.Array],
    rows: int,
    live: np.ndarray[Any, Any],
    drops: Mapping[int, tuple[str, str, str]],
    tallies: tuple[StepTally, ...],
    media: tuple[str, ...] = (),
    fp: str | None = None,
) -> Commit:
    """Publish a base or a layer of `rows` rows with its rejects."""
    table = dict(columns)
    if drops:
        names = ("step", "reason", "detail")
        table["_drop"] = pa.array([dict(zip(names, drops[r], strict=True)) if r in drops else None for r in range(rows)], DROP)
    elif not table:
        table["_drop"] = pa.nulls(rows, DROP)
    written = pa.table(table)
    commit = Commit(
        fp=fp or bench.job.fp,
        rows=rows,
        live_rows=int(live.sum()),
        live=ALL_LIVE if live.all() else digest(np.packbits(live).tobytes()).hex(),
        drops=bool(drops),
        inherits="_row" in columns,
        digests=table_digests(written),
        steps=tallies,
        media=media,
    )
    return bench.ledger.publish(commit, written)


def check_reject(stage: Stage, use: str, reject: Reject) -> Reject:
    """A stage may only give the reasons that it declares. Raises StageError."""
    if reject.reason not in stage.reasons:
        raise StageError(f"{use} gave the reason {reject.reason!r} that it does not declare", "add it to `reasons`")
    return reject


def _guard(bench: Bench, step: Step, key: str, call: Callable[[], Any]) -> tuple[Any, bool]:
    """The result of one call for one sample: exceptions become rejects; (result, was it an error)."""
    try:
        result = call()
    except SampleError as error:
        return Reject(error.reason, error.detail), False
    except (OmnicurateError, MemoryError):
        raise
    except Exception as error:
        _end_if_broken(error)
        bench.note(step.name, key, error)
        return Reject(ERROR, type(error).__name__), True
    if type(result) is Reject:
        check_reject(step.stage, step.use, result)
    return result, False


def _end_if_broken(error: Exception) -> None:
    """A CUDA error sticks to its process: only the end of the worker cures it."""
    if "CUDA error" in str(error) or type(error).__name__ == "AcceleratorError":
        os._exit(70)


def _rows(bench: Bench, job: Job, model: Any) -> Commit:
    rows = Rows(bench, job.steps)
    pending = list(zip(job.steps, rows.tallies, strict=True))
    while pending:
        if isinstance(pending[0][0].stage, Map):
            run = 1
            while run < len(pending) and isinstance(pending[run][0].stage, Map):
                run += 1
            _map(bench, rows, pending[:run])
            pending = pending[run:]
        else:
            step, tally = pending.pop(0)
            assert isinstance(step.stage, Columnar)
            _whole_tables(bench, rows, step, tally, step.stage.table)
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
            except Exception as error:
                result, failed = _guard(bench, step, keys[row], _raise(error))
                rows.drop(row, step, tally, result, failed)
                break
            if type(result) is Reject:
                rows.drop(row, step, tally, check_reject(step.stage, step.use, result))
                break
            tally.kept += 1
            if result.columns or result.media or result.parts:
                rows.accept(row, step, slots, result, sample)


def _raise(error: Exception) -> Callable[[], Any]:
    def again() -> Any:
        raise error

    return again


def _whole_tables(
    bench: Bench, rows: Rows, step: Step, tally: StepTally, call: Callable[[pa.Table], pa.Table]
) -> None:
    """A columnar step: on all live rows at once, and on halves when that fails, down to the bad sample."""
    reads = {path: kind for path, kind in step.stage.reads().fields.items() if path != "key"}
    slots = rows.slots(step)
    live = np.flatnonzero(rows.live)
    tally.read += len(live)

    def attempt(some: np.ndarray[Any, Any]) -> None:
        if not len(some):
            return
        try:
            result = call(rows.table(reads, some))
        except (OmnicurateError, MemoryError):
            raise
        except Exception as error:
            if len(some) > 1:
                middle = len(some) // 2
                attempt(some[:middle])
                attempt(some[middle:])
            else:
                reject, failed = _guard(bench, step, rows.keys[some[0]], _raise(error))
                rows.drop(int(some[0]), step, tally, reject, failed)
            return
        if len(result) != len(some):
            raise StageError(f"{step.use} returned {len(result)} rows for {len(some)}", "filter with a `_drop` column")
        reasons = result.column("_drop").to_pylist() if "_drop" in result.column_names else None
        for name in result.column_names:
            if name not in ("_drop", "key"):
                if name not in slots:
                    raise StageError(f"{step.use} wrote the column {name!r} that it does not declare", nearest(name, slots))
                target = rows.written[slots[name]]
                for row, value in zip(some.tolist(), result.column(name).to_pylist(), strict=True):
                    target[row] = value
        for row, reason in zip(some.tolist(), reasons or [], strict=False):
            if reason is not None:
                rows.drop(row, step, tally, check_reject(step.stage, step.use, Reject(reason)))

    attempt(live)
    tally.kept += len(live) - sum(tally.rejected.values())


def _batch(bench: Bench, job: Job, model: Any) -> Commit:
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
        except Exception as error:
            _end_if_broken(error)
            if len(some) == 1 or isinstance(error, (OmnicurateError, MemoryError)):
                result, failed = _guard(bench, step, rows.keys[some[0]], _raise(error))
                settle(some[0], result, failed)
                return
            middle = len(some) // 2
            attempt(some[:middle])
            attempt(some[middle:])
            return
        if len(results) != len(some):
            raise StageError(f"{step.use} returned {len(results)} results for {len(some)} samples")
        for row, result in zip(some, results, strict=True):
            settle(row, check_reject(stage, step.use, result) if type(result) is Reject else result)

    for row in np.flatnonzero(rows.live).tolist():
        tally.read += 1
        sample = Sample(rows.keys[row], lists, row, rows.parts[row] if rows.parts else None, bench.reader)
        samples[row] = sample
        if row in job.deadly:
            settle(row, Reject(DEADLY), True)
            continue
        bench.in_hand((row,))
        cost, failed = _guard(bench, step, rows.keys[row], lambda sample=sample: stage.cost(sample))
        if type(cost) is Reject:
            settle(row, cost, failed)
        else:
            costs.append((cost, row))
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


def _expand(bench: Bench, job: Job, model: Any) -> Commit:
    rows = Rows(bench, job.steps)
    [step], [tally] = job.steps, rows.tallies
    stage = step.stage
    assert isinstance(stage, Expand)
    lists = {path: rows.values(path) for path in stage.reads().fields if path != "key"}
    lists["key"] = rows.keys
    made = _Made(bench, step)
    for row in np.flatnonzero(rows.live).tolist():
        tally.read += 1
        key = rows.keys[row]
        bench.in_hand((row,))
        sample = Sample(key, lists, row, rows.parts[row] if rows.parts else None, bench.reader)
        if row in job.deadly:
            result, failed = Reject(DEADLY), True
        else:
            result, failed = _guard(bench, step, key, lambda sample=sample: _children(stage, sample))
        if type(result) is not Reject and not result:
            result = Reject("no_children")
        if type(result) is Reject:
            made.add(key, result, row)
            tally.rejected[result.reason] = tally.rejected.get(result.reason, 0) + 1
            tally.errors += failed
            continue
        tally.kept += 1
        for index, child in enumerate(result):
            made.add(child_key(key, index), child, row)
    return made.commit((tally,))


def _children(stage: Expand, sample: Sample) -> list[New] | Reject:
    result = stage.each(sample)
    return result if type(result) is Reject else list(result)


class _Made:
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
        if type(result) is Reject:
            self.drops[index] = (self.step.name, result.reason, result.detail)
            self.columns.append({})
            self.parts.append({})
            return
        assert type(result) is New
        if result.media:
            self.sink.add(index, key, result.media)
        self.columns.append(result.columns)
        self.parts.append(result.parts)

    def commit(self, tallies: tuple[StepTally, ...], fp: str | None = None) -> Commit:
        """Publish the base."""
        made, media = self.sink.close()
        columns: dict[str, pa.Array] = {"key": pa.array(self.keys, pa.string())}
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
        try:
            return pa.array(values, kind)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            for index, value in enumerate(values):
                try:
                    pa.scalar(value, kind)
                except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
                    values[index] = None
                    if index not in self.drops:
                        detail = f"{name}: {type(value).__name__} where {kind} is expected"
                        self.drops[index] = (self.step.name, WRONG_TYPE, detail)
                        tallies[0].kept -= 1
                        tallies[0].rejected[WRONG_TYPE] = tallies[0].rejected.get(WRONG_TYPE, 0) + 1
            return pa.array(values, kind)


def unit_fp(fp: str, index: int) -> str:
    """The fingerprint of the `index`-th unit that a source job makes."""
    return digest(f"{fp}:{index}".encode()).hex()


def _source(bench: Bench, job: Job, model: Any) -> Commit:
    """Read a group of origins into units; the job's own commit lists them."""
    [step] = job.steps
    stage = step.stage
    assert isinstance(stage, Source)
    limit: int | None = job.inputs.get("limit")
    defaults = {"source": stage.source, "license": stage.license, "origin": stage.origin}
    units: list[Commit] = []
    total = 0
    made, tally = _Made(bench, step, defaults), StepTally(step.name)

    def cut() -> None:
        nonlocal made, tally
        if len(made):
            units.append(made.commit((tally,), unit_fp(job.fp, len(units))))
        made, tally = _Made(bench, step, defaults), StepTally(step.name)

    for index, origin in enumerate(job.inputs["origins"]):
        bench.in_hand((index,))
        deadly = index in job.deadly
        for result, failed in _read_origin(bench, step, stage, origin, deadly):
            if limit is not None and total >= limit:
                break
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
    commit = Commit(job.fp, len(units), total, digests=table_digests(listing), media=tuple(m for u in units for m in u.media))
    return bench.ledger.publish(commit, listing)


def _read_origin(
    bench: Bench, step: Step, stage: Source, origin: Origin, deadly: bool
) -> Iterator[tuple[New | Reject, bool]]:
    """The rows of an origin; one that breaks from some point on gives what was good and then one reject."""
    if deadly:
        yield Reject(DEADLY), True
        return
    reading = stage.read(origin)
    while True:
        result, failed = _guard(bench, step, origin.name, lambda: next(reading, None))
        if result is None:
            return
        yield result, failed
        if failed:
            return


def listed_units(ledger: Ledger, listing: Commit) -> list[Commit]:
    """The unit commits that a source job's commit lists."""
    return [Commit.from_json(raw) for raw in ledger.read(listing.fp).column("unit").to_pylist()]


def _partial(bench: Bench, job: Job, model: Any) -> Commit:
    [step] = job.steps
    stage = step.stage
    assert isinstance(stage, Gather) and job.reading is not None
    frame = Frame(bench.ledger, job.reading)
    reads = {path: kind for path, kind in stage.reads().fields.items() if path != "key"}
    return _publish_table(bench, stage.partial(frame.table(reads, np.flatnonzero(frame.live))))


def _merge(bench: Bench, job: Job, model: Any) -> Commit:
    [step] = job.steps
    stage = step.stage
    assert isinstance(stage, Gather)
    return _publish_table(bench, stage.merge(bench.ledger.read(fp) for fp in job.inputs["partials"]))


def _publish_table(bench: Bench, table: pa.Table) -> Commit:
    commit = Commit(bench.job.fp, len(table), len(table), digests=table_digests(table, skip=()))
    return bench.ledger.publish(commit, table)


def _apply(bench: Bench, job: Job, model: Any) -> Commit:
    rows = Rows(bench, job.steps)
    [step], [tally] = job.steps, rows.tallies
    stage = step.stage
    assert isinstance(stage, Gather)
    merged = bench.ledger.read(job.inputs["merged"])
    _whole_tables(bench, rows, step, tally, lambda table: stage.apply(merged, table))
    return rows.commit()


WORK: dict[str, Callable[[Bench, Job, Any], Commit]] = {
    "source": _source,
    "rows": _rows,
    "batch": _batch,
    "expand": _expand,
    "partial": _partial,
    "merge": _merge,
    "apply": _apply,
}
__all__ = ["ANY", "PARTS", "WORK", "Bench", "Done", "Job", "listed_units", "read_crumb", "run_job", "unit_fp"]
