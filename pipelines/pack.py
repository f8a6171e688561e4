"""Publishing: a flow's rows become an immutable data set of WebDataset tars with index, rejects and manifest.

The version is named by what goes into it. Everything in its folder is published atomically under final names, the
manifest last, then `latest`; a folder without a manifest is unfinished and the next run completes it.
"""

from __future__ import annotations

import contextlib
import os
import time
import uuid
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipelines.collect import GRACE
from pipelines.ledger import Commit, View
from pipelines.mix import MixRun
from pipelines.nodes import NodeRun, Tally, UnitId
from pipelines.plan import Node
from pipelines.work.bench import Job
from pipelines.work.pack import PACK
from pipelines.work.records import JSON_TEXT
from schemas.digest import canonical_json, fingerprint
from schemas.errors import RunError
from schemas.manifest import (
    FORMAT,
    INDEX_DIR,
    LATEST,
    MANIFEST,
    REJECTED_DIR,
    SHARDS_DIR,
    Manifest,
    RejectedFile,
    Shard,
    Share,
    StepCount,
)
from schemas.recipe import Output
from schemas.store import Store

if TYPE_CHECKING:
    from pipelines.engine import Engine


class PackRun(NodeRun):
    """The last node of an output."""

    def __init__(self, engine: Engine, node: Node) -> None:
        super().__init__(engine, node)
        assert node.output is not None
        self.name: str = node.output[0]
        self.output: Output = node.output[1]
        self.out = Store(self.output.to)
        self.dataset = self.out.root.rstrip("/").rsplit("/", 1)[-1]
        self.tallies[PACK] = Tally()
        self.manifest: Manifest | None = None
        self._records: dict[UnitId, Commit] = {}
        self.version = ""
        """Name of the version's folder: what is kept and what is rejected decides it."""
        self._shards: dict[int, Commit] = {}
        self._rejects: dict[int, Commit] = {}

    def on_unit(self, parent: int, unit: UnitId, view: View) -> None:
        if not view.live_rows:
            return
        reading, digests = view.read(self.node.types, self.output.parts)
        record = self.output.record
        types = self.node.types
        basis = [
            record,
            {name: str(kind) for name, kind in types.items()},
            digests,
            view.base.digests["key"],
            view.live,
        ]
        owners = {name: view.owner(name) for name in JSON_TEXT if name in types}
        unchecked = [name for name, owner in owners.items() if owner is not None and not owner.published]
        inputs = {"types": types, "record": record, "unchecked": unchecked}
        job = Job(fingerprint(["pack_rows", basis]), "pack_rows", (), reading, inputs)
        self.submit(unit, job, lambda commit: self._records.update({unit: commit}))

    def on_parents_done(self) -> None:
        self.engine.when_idle(self, self._lay_out)

    def _lay_out(self) -> None:
        records = [self._records[unit] for unit in sorted(self._records)]
        if not sum(commit.live_rows for commit in records):
            if self.engine.executor is None:
                return
            raise RunError(f"no sample is left for the output {self.name!r}", self.funnel())
        limits = {"bytes": self.output.shard.bytes, "samples": self.output.shard.samples}
        fp = fingerprint(["layout", [commit.content for commit in records], limits, self.dataset])
        inputs = {"units": [(commit.fp, commit.live_rows) for commit in records], **limits}
        self.submit((self.node.index,), Job(fp, "layout", inputs=inputs), self._write)

    def funnel(self) -> str:
        """The steps with what they read and kept, for an error message."""
        lines = []
        for node in self.engine.plan.lineage(self.node):
            for step, tally in self.engine.runs[node.index].tallies.items():
                why = ", ".join(f"{n} {reason}" for reason, n in tally.rejected.most_common(3) if n)
                lines.append(f"{node.flow}.{step}: {tally.read} read, {tally.kept} kept" + (f" ({why})" if why else ""))
        return "\n  ".join(lines)

    def _write(self, layout: Commit) -> None:
        records = [self._records[unit] for unit in sorted(self._records)]
        units = [commit.fp for commit in records]
        count = len(layout.facts["shards"])
        duplicates = (layout.fp, count, units) if layout.facts["duplicates"] else None
        lineage = self.engine.plan.lineage(self.node)
        rejects = [self._rejects_of(place, node, duplicates) for place, node in enumerate(lineage)]
        tallies = [
            [node.flow, name, tally.read, tally.kept, tally.left, {why: n for why, n in tally.rejected.items() if n}]
            for node in lineage
            for name, tally in self.engine.runs[node.index].tallies.items()
        ]
        basis = [FORMAT, layout.fp, tallies, [digests for *_, digests in rejects], self.engine.plan.excerpt(self.name)]
        self.version = fingerprint(["version", *basis])[:8]
        place = {"to": self.out.root, "version": self.version}
        for shard in range(count):
            fp = fingerprint(["shard", layout.fp, shard, self.out.root, self.version])
            name = f"{self.dataset}-{shard:06d}"
            inputs = {
                **place,
                "name": name,
                "layout": layout.fp,
                "shard": shard,
                "units": units,
                "duplicates": None if duplicates is None else count,
            }
            job = Job(fp, "shard", inputs=inputs)
            self.submit((shard,), job, partial(self._shards.__setitem__, shard), tally=False)
        for node, (name, rejected, twice, digests) in zip(lineage, rejects, strict=True):
            if rejected or twice is not None:
                bare = [[step.name, reason] for step in node.steps for reason in step.stage.nameless]
                what = {"name": name, "flow": node.flow, "types": node.types, "units": rejected, "duplicates": twice}
                what["bare"] = bare
                fp = fingerprint(["rejects", digests, name, self.out.root, self.version])
                job = Job(fp, "rejects", inputs={**place, **what})
                then = partial(self._rejects.__setitem__, node.index)
                self.submit((-1, node.index), job, then, tally=False)
        self.engine.when_idle(self, self._publish)

    def _rejects_of(self, place: int, node: Node, duplicates: Any) -> tuple[str, list[tuple[str, Any]], Any, list[Any]]:
        """What a node rejected: the file's name, how to read each unit, duplicate keys, digests of all that."""
        run = self.engine.runs[node.index]
        own = run is self
        commits = self._records if own else run.commits
        units: list[tuple[str, Any]] = []
        digests: list[Any] = []
        for unit in sorted(commits):
            commit = commits[unit]
            if not commit.drops:
                continue
            view = None if own else run.units.get(unit) or View(commit)
            reading, found = view.read(node.types, None) if view else (None, [])
            units.append((commit.fp, reading))
            digests.append([commit.content, found, view.base.digests["key"] if view else None])
        name = f"{place:03d}-{node.flow}-{'-'.join(step.name for step in node.steps) or PACK}"
        twice = duplicates if own else None
        return name, units, twice, [digests, twice is not None]

    def still_there(self, commit: Commit) -> bool:
        """Whether what a commit published is still in the data set (a user may have removed it)."""
        if "shard" in commit.facts:
            name = commit.facts["shard"]["name"]
            index = f"{self.version}/{INDEX_DIR}/{name.removesuffix('.tar')}.parquet"
            return self.out.exists(f"{self.version}/{SHARDS_DIR}/{name}") and self.out.exists(index)
        if "rejected" in commit.facts:
            return self.out.exists(f"{self.version}/{REJECTED_DIR}/{commit.facts['rejected']}.parquet")
        return super().still_there(commit)

    def _publish(self) -> None:
        if self.engine.executor is None:
            return
        manifest = self._make_manifest()
        self._check_conservation(manifest)
        self.out.put_new(f"{self.version}/{MANIFEST}", (canonical_json(manifest.model_dump()) + "\n").encode())
        if self.engine.limit is None:
            set_latest(self.out, self.version)
        sweep_leftovers(self.out)
        self.manifest = manifest

    def _make_manifest(self) -> Manifest:
        shards = [Shard(**self._shards[i].facts["shard"]) for i in sorted(self._shards)]
        sources: Counter[str] = Counter()
        licenses: Counter[str] = Counter()
        for commit in self._shards.values():
            sources.update(commit.facts["sources"])
            licenses.update(commit.facts["licenses"])
        steps = [
            StepCount(
                flow=node.flow,
                step=name,
                use=next((step.use for step in node.steps if step.name == name), PACK),
                read=tally.read,
                kept=tally.kept,
                rejected={reason: n for reason, n in sorted(tally.rejected.items()) if n},
                left=tally.left,
                repeated=tally.repeated,
            )
            for node in self.engine.plan.lineage(self.node)
            for name, tally in self.engine.runs[node.index].tallies.items()
        ]
        rejected_files = [
            RejectedFile(name=f"{commit.facts['rejected']}.parquet", rows=commit.rows, digest=commit.facts["digest"])
            for commit in self._rejects.values()
        ]
        return Manifest(
            dataset=self.dataset,
            version=self.version,
            recipe=self.engine.plan.excerpt(self.name),
            seed=self.engine.plan.recipe.seed,
            steps=steps,
            samples=sum(shard.samples for shard in shards),
            rejected=sum(commit.rows for commit in self._rejects.values()),
            bytes=sum(shard.bytes for shard in shards),
            shards=shards,
            rejected_files=sorted(rejected_files, key=lambda file: file.name),
            columns={name: str(kind) for name, kind in self.node.types.items() if name != "order"},
            mixtures={
                node.flow: [Share(**share) for share in run.shares]
                for node in self.engine.plan.lineage(self.node)
                if isinstance(run := self.engine.runs[node.index], MixRun)
            },
            sources=dict(sorted(sources.items())),
            licenses=dict(sorted(licenses.items())),
        )

    def _check_conservation(self, manifest: Manifest) -> None:
        """Every sample is in exactly one of kept and rejected, at every step. Raises RunError."""
        for step in manifest.steps:
            accounted = step.kept + sum(step.rejected.values()) + step.left - step.repeated
            if step.read != accounted:
                raise RunError(f"{step.flow}.{step.step} read {step.read} but accounts for {accounted}: {step}")
        rejected = sum(sum(step.rejected.values()) for step in manifest.steps)
        if rejected != manifest.rejected or manifest.steps[-1].kept != manifest.samples:
            raise RunError(
                f"the data set holds {manifest.samples} samples and {manifest.rejected} rejects, but the steps count "
                f"{manifest.steps[-1].kept} and {rejected}: samples were lost"
            )


def sweep_leftovers(out: Store) -> None:
    """Remove half-written files of writers that died long ago; a file that is being written is never that old."""
    if out.local:
        for path in Path(out.root, ".tmp").glob("*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > GRACE:
                    path.unlink()


def set_latest(out: Store, version: str) -> None:
    """Point `latest` at a version: a symbolic link on a local disk, a small file elsewhere."""
    if not out.local:
        out.put(LATEST, version.encode())
        return
    temporary = Path(out.root, f".{uuid.uuid4().hex}")
    os.symlink(version, temporary)
    os.replace(temporary, Path(out.root, LATEST))
