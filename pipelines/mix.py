"""A mixture while it runs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from pipelines.ledger import Commit, View
from pipelines.nodes import NodeRun, UnitId
from pipelines.work.bench import Job
from schemas.digest import fingerprint
from stages.base import Choice

if TYPE_CHECKING:
    from pipelines.engine import Engine
    from pipelines.plan import Node


class MixRun(NodeRun):
    """Measures every unit of every source, chooses once, then takes rows of each unit into a new base."""

    def __init__(self, engine: Engine, node: Node) -> None:
        super().__init__(engine, node)
        self.shares: tuple[dict[str, Any], ...] = ()
        """How each source fared (`Share` as a dictionary), once the choice is made."""
        self._inputs: dict[tuple[int, UnitId], View] = {}
        self._measured: dict[tuple[int, UnitId], Commit] = {}

    def _stage(self) -> Choice:
        [step] = self.node.steps
        assert isinstance(step.stage, Choice)
        return step.stage

    def on_unit(self, parent: int, unit: UnitId, view: View) -> None:
        if not view.live_rows:
            return
        self._inputs[parent, unit] = view
        name = self.node.input_names[parent]
        [step] = self.node.steps
        reading, digests = view.read(list(self._stage().measured()), ())
        basis = [self._stage().partial_spec(), name, digests, view.base.digests["key"], view.live]
        job = Job(fingerprint(["measure", basis]), "measure", (step,), reading, {"name": name})
        self.submit(unit, job, partial(self._measured.__setitem__, (parent, unit)), tally=False)

    def on_parents_done(self) -> None:
        self.engine.when_idle(self, self._choose)

    def _choose(self) -> None:
        [step] = self.node.steps
        partials: dict[str, list[Commit]] = {name: [] for name in self.node.input_names}
        for parent, unit in sorted(self._measured):
            partials[self.node.input_names[parent]].append(self._measured[parent, unit])
        if not self._measured:
            return
        contents = {name: [commit.content for commit in commits] for name, commits in partials.items()}
        fp = fingerprint(["choose", step.spec, list(contents.items())])
        inputs = {"partials": {name: [commit.fp for commit in commits] for name, commits in partials.items()}}
        self.submit((self.node.index,), Job(fp, "choose", (step,), inputs=inputs), self._take, tally=False)

    def _take(self, choice: Commit) -> None:
        self.shares = tuple(choice.facts["shares"])
        [step] = self.node.steps
        for group, (parent, unit) in enumerate(sorted(self._inputs)):
            view = self._inputs[parent, unit]
            types = self.node.parents[parent].types
            reading, digests = view.read(["lineage"] if "lineage" in types else [], ())
            name = self.node.input_names[parent]
            basis = [step.spec, name, digests, view.base.digests["key"], view.live, choice.content, group]
            inputs = {"name": name, "choice": choice.fp, "group": group}
            job = Job(fingerprint(["take", basis]), "take", (step,), reading, inputs)
            mixed = (self.node.index, parent, *unit)
            self.submit(mixed, job, partial(self.emit_base, mixed, parent=view))
