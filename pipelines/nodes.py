"""Nodes while they run: each takes units from its parents, makes jobs of them and hands finished units on.

A node's results are named by what goes into them; the engine finds or does each job. The driver holds one small record
for each unit, never a row.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from pipelines.index import dataset_of, reference
from pipelines.ledger import Commit, Reading, StepTally, View
from pipelines.plan import Node
from pipelines.step import Step
from pipelines.work.bench import Job
from pipelines.work.make import listed_units
from schemas.digest import digest, fingerprint
from schemas.errors import DataError
from schemas.manifest import INDEX_GROUP, INDEX_GROUP_BYTES
from stages.base import Batch, Combine, Group, Indexed, Origin, Source

if TYPE_CHECKING:
    from pipelines.engine import Engine

UnitId: TypeAlias = tuple[int, ...]
OnCommit: TypeAlias = "Callable[[Commit], None]"


@dataclass
class Tally:
    """What a step did in the whole run."""

    read: int = 0
    kept: int = 0
    errors: int = 0
    left: int = 0
    repeated: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def add(self, unit: StepTally) -> None:
        """Count a unit in."""
        self.read += unit.read
        self.kept += unit.kept
        self.errors += unit.errors
        self.left += unit.left
        self.repeated += unit.repeated
        self.rejected.update(unit.rejected)


class NodeRun:
    """A node while it runs: takes units from its parents, makes jobs, hands units on."""

    def __init__(self, engine: Engine, node: Node) -> None:
        self.engine = engine
        self.node = node
        self.consumers: list[tuple[NodeRun, int]] = []
        self.units: dict[UnitId, View] = {}
        self.commits: dict[UnitId, Commit] = {}
        self.tallies: dict[str, Tally] = {step.name: Tally() for step in node.steps}
        self.jobs = 0
        self.reused = 0
        self.open = 0
        self.open_parents = len(node.parents)
        self.done = False
        self.first_error: str | None = None
        """The last line of the first traceback behind a reject of this run."""

    def start(self) -> None:
        """Called once, before any unit arrives."""

    def on_unit(self, parent: int, unit: UnitId, view: View) -> None:
        """A unit of a parent is there."""
        raise NotImplementedError

    def on_parents_done(self) -> None:
        """All units of all parents have arrived."""

    def emit(self, unit: UnitId, view: View) -> None:
        """Hand a finished unit on."""
        self.units[unit] = view
        for consumer, slot in self.consumers:
            consumer.on_unit(slot, unit, view)

    def emit_layer(self, unit: UnitId, view: View, layer: Commit) -> None:
        """Hand on a unit with a layer more."""
        self.emit(unit, view.over(layer))

    def emit_base(self, unit: UnitId, base: Commit, parent: View | None = None) -> None:
        """Hand on a unit of new rows."""
        self.emit(unit, View(base, parent=parent))

    def submit(self, unit: UnitId, job: Job, then: OnCommit, tally: bool = True, model: str | None = None) -> None:
        """Have a job done, or find that it has been."""
        self.jobs += 1
        self.open += 1
        self.engine.submit(self, unit, job, then, tally, model)

    def still_there(self, commit: Commit) -> bool:
        """Whether what a commit refers to is there as well (someone may have deleted it)."""
        return all(self.engine.store.exists(name) for name in commit.media)

    def reading(self, view: View, steps: tuple[Step, ...], *more: str) -> tuple[Reading, list[Any]]:
        """What the steps read of a unit (and `more` columns), and all that decides their result."""
        written: set[str] = set()
        paths: list[str] = list(more)
        parts: list[str] = []
        for step in steps:
            reads = step.stage.reads()
            paths += [p for p in reads.fields if p != "key" and p.split(".")[0] not in written]
            parts += reads.parts
            written |= step.columns_written().keys()
        reading, digests = view.read(paths, parts)
        return reading, [[step.spec for step in steps], digests, view.base.digests["key"], view.live]


class SourceRun(NodeRun):
    """Cuts the input into groups of origins; each group's job makes one or more units."""

    def start(self) -> None:
        [step] = self.node.steps
        stage = step.stage
        assert isinstance(stage, Source)
        self._step = step
        self._groups = list(enumerate(group_origins(stage.origins(), stage.unit)))
        self._left = self.engine.limit
        if not self._groups:
            raise DataError(f"{step.use} in the flow {self.node.flow!r} found no input", "check its path")
        if self._left is None:
            for index, group in self._groups:
                self._read(index, group)
        else:
            self._read(*self._groups.pop(0))

    def _read(self, index: int, group: list[Origin]) -> None:
        fp = fingerprint(["source", self._step.spec, [list(origin) for origin in group], self._left])
        job = Job(fp, "source", (self._step,), inputs={"origins": group, "limit": self._left})
        self.submit((self.node.index, index), job, lambda commit: self._listed(index, commit), tally=False)

    def still_there(self, commit: Commit) -> bool:
        """A listing is worth nothing without its units."""
        ledger = self.engine.ledger
        units = listed_units(ledger, commit)
        return super().still_there(commit) and all(ledger.store.exists(ledger.name(unit.fp)) for unit in units)

    def _listed(self, index: int, listing: Commit) -> None:
        for i, unit in enumerate(listed_units(self.engine.ledger, listing)):
            self.engine.count(self, (self.node.index, index, i), unit)
            self.emit((self.node.index, index, i), View(unit))
        if self._left is not None:
            self._left -= listing.live_rows
            if self._left > 0 and self._groups:
                self.engine.when_idle(self, lambda: self._read(*self._groups.pop(0)))


class IndexedRun(NodeRun):
    """Rows of a published data set: each row group of its index is a unit, and nothing needs to be done."""

    def start(self) -> None:
        [step] = self.node.steps
        assert isinstance(step.stage, Indexed)
        for number, groups in enumerate(unit_groups(step.stage.groups(), self.engine.limit)):
            commit = index_commit(step.name, groups)
            unit = (self.node.index, number)
            self.engine.count(self, unit, commit)
            self.emit(unit, View(commit))


def unit_groups(groups: Sequence[Group], limit: int | None) -> Iterator[list[tuple[Group, int]]]:
    """Adjacent row groups, with how many of their rows are used, in units of a full row group at most."""
    held: list[tuple[Group, int]] = []
    left = limit
    for group in groups:
        rows = group.rows if left is None else min(left, group.rows)
        size = sum(other.bytes for other, _ in held) + group.bytes
        if held and (sum(used for _, used in held) + rows > INDEX_GROUP or size > INDEX_GROUP_BYTES):
            yield held
            held = []
        if rows:
            held.append((group, rows))
        left = None if left is None else left - rows
    if held:
        yield held


def index_commit(step: str, groups: list[tuple[Group, int]]) -> Commit:
    """Rows in index files as a base."""
    digests: dict[str, Any] = {}
    for leaf in sorted({leaf for group, _ in groups for leaf in group.digests} | {"lineage"}):
        found: list[Any] = [[group.digests.get(leaf), rows] for group, rows in groups]
        if leaf == "lineage":  # says which version a row comes from
            found.append(dataset_of(groups[0][0].uri))
        digests[leaf] = fingerprint(found)
    rows = sum(used for _, used in groups)
    return Commit(reference(groups), rows, rows, digests=digests, steps=(StepTally(step, rows, rows),))


def group_origins(origins: Iterator[Origin], unit: int) -> list[list[Origin]]:
    """Origins of one sample each are grouped to about a unit; where groups end depends on names alone.

    So a file that is added changes its own group and no other (content-defined chunking).
    """
    groups: list[list[Origin]] = []
    group: list[Origin] = []
    for origin in origins:
        if origin.many:
            groups.append([origin])
            continue
        group.append(origin)
        boundary = int.from_bytes(digest(origin.name.encode())[:4], "little") % max(1, unit // 2) == 0
        if len(group) >= unit or (boundary and len(group) >= unit // 4):
            groups.append(group)
            group = []
    return [*groups, group] if group else groups


class RowsRun(NodeRun):
    """Row stages: a layer on each unit."""

    def on_unit(self, parent: int, unit: UnitId, view: View) -> None:
        if not view.live_rows:
            self.emit(unit, view)
            return
        reading, basis = self.reading(view, self.node.steps)
        job = Job(fingerprint([self.node.kind, basis]), self.node.kind, self.node.steps, reading)
        stage = self.node.steps[0].stage
        model = stage.model if isinstance(stage, Batch) else None
        self.submit(unit, job, partial(self.emit_layer, unit, view), model=model)


class ExpandRun(NodeRun):
    """An expand: each unit becomes the parent of a new base."""

    def on_unit(self, parent: int, unit: UnitId, view: View) -> None:
        if not view.live_rows:
            return
        lineage = ["lineage"] if "lineage" in self.node.parents[0].types else []
        reading, basis = self.reading(view, self.node.steps, *lineage)
        job = Job(fingerprint(["expand", basis]), "expand", self.node.steps, reading)
        self.submit(unit, job, partial(self.emit_base, unit, parent=view))


class GatherRun(NodeRun):
    """A gather: summaries of the units, one merge, then a layer on each unit."""

    def __init__(self, engine: Engine, node: Node) -> None:
        super().__init__(engine, node)
        self._inputs: dict[UnitId, View] = {}
        self._partials: dict[UnitId, Commit] = {}

    def on_unit(self, parent: int, unit: UnitId, view: View) -> None:
        if not view.live_rows:
            self.emit(unit, view)
            return
        self._inputs[unit] = view
        reading, basis = self.reading(view, self.node.steps)
        job = Job(fingerprint(["partial", basis]), "partial", self.node.steps, reading)
        self.submit(unit, job, lambda commit: self._partials.update({unit: commit}), tally=False)

    def on_parents_done(self) -> None:
        self.engine.when_idle(self, self._merge)

    def _merge(self) -> None:
        if not self._partials:
            return
        partials = [self._partials[unit] for unit in sorted(self._partials)]
        [step] = self.node.steps
        fp = fingerprint(["merge", step.spec, [commit.content for commit in partials]])
        job = Job(fp, "merge", self.node.steps, inputs={"partials": [commit.fp for commit in partials]})
        self.submit((self.node.index,), job, self._apply, tally=False)

    def _apply(self, merged: Commit) -> None:
        for unit, view in sorted(self._inputs.items()):
            reading, basis = self.reading(view, self.node.steps)
            job = Job(
                fingerprint(["apply", basis, merged.content]),
                "apply",
                self.node.steps,
                reading,
                {"merged": merged.fp},
            )
            self.submit(unit, job, partial(self.emit_layer, unit, view))


class UnionRun(NodeRun):
    """A union: views pass through; nothing is copied."""

    def on_unit(self, parent: int, unit: UnitId, view: View) -> None:
        self.emit((self.node.index, parent, *unit), view)


class CombineRun(NodeRun):
    """A combine: every unit is cut into buckets by the hash of a column, then each bucket becomes a new unit."""

    def __init__(self, engine: Engine, node: Node) -> None:
        super().__init__(engine, node)
        self._scattered: dict[tuple[int, UnitId], Commit] = {}

    def on_unit(self, parent: int, unit: UnitId, view: View) -> None:
        if not view.live_rows:
            return
        [step] = self.node.steps
        assert isinstance(step.stage, Combine)
        source = self.node.parents[parent]
        on, buckets = step.stage.bucket_on(self.node.input_names[parent]), step.stage.buckets
        reading, digests = view.read(list(source.types), None)
        fp = fingerprint(["scatter", on, buckets, digests, view.base.digests["key"], view.live])
        inputs = {"types": source.types, "on": on, "buckets": buckets}
        job = Job(fp, "scatter", reading=reading, inputs=inputs)
        key = (parent, unit)
        self.submit(unit, job, lambda commit: self._scattered.update({key: commit}), tally=False)

    def on_parents_done(self) -> None:
        self.engine.when_idle(self, self._combine)

    def _combine(self) -> None:
        [step] = self.node.steps
        assert isinstance(step.stage, Combine)
        for bucket in range(step.stage.buckets):
            inputs = {
                name: [
                    (commit.fp, commit.facts["groups"][bucket])
                    for key, commit in sorted(self._scattered.items())
                    if key[0] == slot and commit.facts["groups"][bucket] >= 0
                ]
                for slot, name in enumerate(self.node.input_names)
            }
            if not any(inputs.values()):
                continue
            contents = {name: [fp for fp, _ in pieces] for name, pieces in inputs.items()}
            fp = fingerprint(["bucket", step.spec, bucket, contents])
            types = {name: p.types for name, p in zip(self.node.input_names, self.node.parents, strict=True)}
            job = Job(fp, "bucket", (step,), inputs={"pieces": inputs, "types": types, "result": self.node.types})
            unit = (self.node.index, bucket)
            self.submit(unit, job, partial(self.emit_base, unit))
