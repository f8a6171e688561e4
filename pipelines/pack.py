"""Publishing: a flow's rows become an immutable data set of WebDataset tars with index, rejects and manifest.

The version is named by what goes into it. Everything in its folder is published atomically under final names, the
manifest last, then `latest`; a folder without a manifest is unfinished and the next run completes it.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pipelines.ledger import Commit, View
from pipelines.nodes import NodeRun, Tally, UnitId
from pipelines.plan import Node
from pipelines.work.bench import Job
from pipelines.work.pack import PACK
from schemas.digest import canonical_json, fingerprint
from schemas.errors import RunError
from schemas.manifest import LATEST, MANIFEST, REJECTED_DIR, SHARDS_DIR, Manifest, Shard, StepCount
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
        self._layout: Commit | None = None
        self._shards: dict[int, Commit] = {}
        self._rejects: dict[int, Commit] = {}

    @property
    def version(self) -> str:
        """Name of the version's folder."""
        assert self._layout is not None
        return self._layout.fp[:8]

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
        job = Job(fingerprint(["pack_rows", basis]), "pack_rows", (), reading, {"types": types, "record": record})
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
        self._layout = layout
        records = [self._records[unit] for unit in sorted(self._records)]
        units = [commit.fp for commit in records]
        count = len(layout.facts["shards"])
        duplicates = count if layout.facts["duplicates"] else None
        place = {"to": self.out.root, "version": self.version}
        for shard in range(count):
            fp = fingerprint(["shard", layout.fp, shard, self.out.root])
            name = f"{self.dataset}-{shard:06d}"
            inputs = {
                **place,
                "name": name,
                "layout": layout.fp,
                "shard": shard,
                "units": units,
                "duplicates": duplicates,
            }
            job = Job(fp, "shard", inputs=inputs)
            self.submit((shard,), job, partial(self._shards.__setitem__, shard), tally=False)
        for node in self.engine.plan.lineage(self.node):
            self._export_rejects(node, place, units, duplicates)
        self.engine.when_idle(self, self._publish)

    def _export_rejects(self, node: Node, place: dict[str, str], records: list[str], duplicates: int | None) -> None:
        run = self.engine.runs[node.index]
        own = run is self
        commits = self._records if own else run.commits
        units: list[tuple[str, Any]] = []
        for unit in sorted(commits):
            commit = commits[unit]
            if not commit.drops:
                continue
            view = None if own else run.units.get(unit) or View(commit)
            units.append((commit.fp, view.read(node.types, None)[0] if view else None))
        twice = duplicates if own else None
        if not units and twice is None:
            return
        name = f"{node.index:03d}-{node.flow}-{'-'.join(step.name for step in node.steps) or PACK}"
        assert self._layout is not None
        fp = fingerprint(["rejects", [fp for fp, _ in units], name, self._layout.fp, self.out.root])
        inputs = {
            **place,
            "name": name,
            "flow": node.flow,
            "types": node.types,
            "units": units,
            "duplicates": None if twice is None else (self._layout.fp, twice, records),
        }
        job = Job(fp, "rejects", inputs=inputs)
        self.submit((-1, node.index), job, lambda c: self._rejects.update({node.index: c}), tally=False)

    def still_there(self, commit: Commit) -> bool:
        """Whether what a commit published is still in the data set (a user may have removed it)."""
        if "shard" in commit.facts:
            return self.out.exists(f"{self.version}/{SHARDS_DIR}/{commit.facts['shard']['name']}")
        if "rejected" in commit.facts:
            return self.out.exists(f"{self.version}/{REJECTED_DIR}/{commit.facts['rejected']}.parquet")
        return True

    def _publish(self) -> None:
        if self.engine.executor is None:
            return
        manifest = self._make_manifest()
        self._check_conservation(manifest)
        self.out.put_new(f"{self.version}/{MANIFEST}", (canonical_json(manifest.model_dump()) + "\n").encode())
        if self.engine.limit is None:
            set_latest(self.out, self.version)
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
            )
            for node in self.engine.plan.lineage(self.node)
            for name, tally in self.engine.runs[node.index].tallies.items()
        ]
        return Manifest(
            dataset=self.dataset,
            version=self.version,
            recipe=yaml.safe_load(self.engine.plan.text),
            seed=self.engine.plan.recipe.seed,
            steps=steps,
            samples=sum(shard.samples for shard in shards),
            rejected=sum(commit.rows for commit in self._rejects.values()),
            bytes=sum(shard.bytes for shard in shards),
            shards=shards,
            rejected_files=sorted(str(commit.facts["rejected"]) + ".parquet" for commit in self._rejects.values()),
            columns={name: str(kind) for name, kind in self.node.types.items()},
            sources=dict(sorted(sources.items())),
            licenses=dict(sorted(licenses.items())),
        )

    def _check_conservation(self, manifest: Manifest) -> None:
        """Every sample is in exactly one of kept and rejected, at every step. Raises RunError."""
        for step in manifest.steps:
            if step.read != step.kept + sum(step.rejected.values()):
                raise RunError(
                    f"{step.flow}.{step.step} read {step.read} but accounts for {step.kept} + {step.rejected}"
                )
        rejected = sum(sum(step.rejected.values()) for step in manifest.steps)
        if rejected != manifest.rejected or manifest.steps[-1].kept != manifest.samples:
            raise RunError(
                f"the data set holds {manifest.samples} samples and {manifest.rejected} rejects, but the steps count "
                f"{manifest.steps[-1].kept} and {rejected}: samples were lost"
            )


def set_latest(out: Store, version: str) -> None:
    """Point `latest` at a version: a symbolic link on a local disk, a small file elsewhere."""
    if not out.local:
        out.put(LATEST, version.encode())
        return
    temporary = Path(out.root, f".{uuid.uuid4().hex}")
    os.symlink(version, temporary)
    os.replace(temporary, Path(out.root, LATEST))
