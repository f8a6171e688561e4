"""The workbench: what every piece of work shares. Jobs, crumbs, isolation of bad samples, commits, media.

A job is plain data; its result is a commit. It can run any number of times, anywhere: the first commit wins.
"""

from __future__ import annotations

import mmap
import os
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipelines.ledger import ALL_LIVE, Commit, Ledger, Reading, StepTally, table_digests
from pipelines.step import Step
from schemas.columns import DROP
from schemas.digest import digest
from schemas.errors import OmnicurateError, SampleError, StageError
from schemas.sample import Media, Part, member_extension
from schemas.shards.writer import Entry, ShardWriter
from schemas.store import STORE_SCHEME, MediaReader, Store
from stages.base import New, Reject

ERROR = "error"  # the reason of a sample whose step raised an exception
DEADLY = "deadly"  # the reason of a sample that killed its worker three times when it was alone in it
WRONG_TYPE = "wrong_type"
NO_CHILDREN = "no_children"  # the reason of a row that an expand made nothing of
_MAX_NOTES = 20


@dataclass(frozen=True)
class Job:
    """One piece of work for a worker.

    fp: the commit that it makes. work: which function of `WORK` does it. reading: what it opens. inputs: other
    commits or data it needs. crumb: a file for the rows in hand; probe: rows to try singly first, for nothing, because
    a worker died holding them; alone: rows to work on singly because in company they keep killing; deadly: rows to
    reject unseen.
    """

    fp: str
    work: str
    steps: tuple[Step, ...] = ()
    reading: Reading | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    crumb: str | None = None
    probe: frozenset[int] = frozenset()
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
        """Leave a crumb: should the worker die now, these rows are suspects; none, when no row can be blamed."""
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
    _SLOTS = 1 << 16  # rows; only the pages that are used take space

    def __init__(self, path: str) -> None:
        self._path = path
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb+") as file:
            file.truncate(8 * (self._SLOTS + 1))
            self._map = mmap.mmap(file.fileno(), 0)
        self._slots = memoryview(self._map).cast("q")  # for single numbers much faster than an array of NumPy

    def write(self, rows: Sequence[int]) -> None:
        count = min(len(rows), self._SLOTS)
        self._slots[0] = 0
        for slot, row in enumerate(rows[:count], 1):
            self._slots[slot] = row
        self._slots[0] = count

    def close(self) -> None:
        self._slots.release()
        self._map.close()
        os.unlink(self._path)


def read_crumb(path: str) -> tuple[bool, list[int]]:
    """Whether a dead worker had begun the job, and the rows it had in hand. Removes the crumb."""
    try:
        slots = np.fromfile(path, dtype=np.int64)
        os.unlink(path)
    except FileNotFoundError:
        return False, []
    return True, slots[1 : int(slots[0]) + 1].tolist() if len(slots) else []


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
        table["_drop"] = pa.array(
            [dict(zip(names, drops[r], strict=True)) if r in drops else None for r in range(rows)], DROP
        )
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


BROKEN: tuple[type[BaseException], ...] = (Exception, SystemExit)
"""What the code of a stage may end in; a library that calls sys.exit must not take the worker along."""


def checked(step: Step, result: Any) -> Any:
    """What a stage returned for one sample: New, or a Reject with a reason that it declares. Raises StageError."""
    if isinstance(result, Reject):
        check_reason(step, result.reason)
    elif not isinstance(result, New):
        hint = "return New(…), KEEP or Reject(…)"
        raise StageError(f"{step.use} returned {type(result).__name__} for a sample", hint)
    return result


def check_reason(step: Step, reason: str) -> None:
    """A stage may only give the reasons that it declares. Raises StageError."""
    if reason not in step.stage.reasons:
        raise StageError(f"{step.use} gave the reason {reason!r} that it does not declare", "add it to `reasons`")


def guard(bench: Bench, step: Step, key: str, call: Callable[[], Any]) -> tuple[Any, bool]:
    """The result of one call for one sample: exceptions become rejects; (result, was it an error)."""
    try:
        result = call()
    except SampleError as error:
        return Reject(error.reason, error.detail), False
    except (OmnicurateError, MemoryError):
        raise
    except BROKEN as error:
        end_if_broken(error)
        bench.note(step.name, key, error)
        return Reject(ERROR, type(error).__name__), True
    return result, False


def again(error: BaseException) -> None:
    """Raise an exception that was caught where speed counted, for `guard` to judge."""
    raise error


def end_if_broken(error: BaseException) -> None:
    """A CUDA error sticks to its process: only the end of the worker cures it."""
    if "CUDA error" in str(error) or type(error).__name__ == "AcceleratorError":
        os._exit(70)
