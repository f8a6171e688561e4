"""What a run would do: a dry walk of the plan over the ledger, compared with the last run of the recipe."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from schemas.digest import fingerprint
from schemas.store import Store, is_local

if TYPE_CHECKING:
    from pipelines.executors import Death
    from pipelines.nodes import NodeRun
    from pipelines.plan import Node, Plan
    from pipelines.work.bench import Done


class _Missing:
    """Counts the jobs that the ledger does not have."""

    def __init__(self) -> None:
        self.todo: dict[int, int] = {}

    def submitted(self, run: NodeRun, reused: bool) -> None:
        if not reused:
            self.todo[run.node.index] = self.todo.get(run.node.index, 0) + 1

    def committed(self, run: NodeRun, done: Done, reused: bool) -> None: ...
    def died(self, run: NodeRun, death: Death, row: int | None) -> None: ...
    def tick(self) -> None: ...


def explain(plan: Plan) -> dict[str, Any]:
    """The graph with, for each segment, what would be reused, what done, and why."""
    from pipelines.engine import Engine
    from pipelines.plan import store_root

    store = Store(store_root(plan))
    missing = _Missing()
    engine = Engine(plan, store, None, missing)
    engine.run()
    before = _remembered(store, plan)
    nodes = []
    changed: set[int] = set()
    for run in engine.runs:
        node = run.node
        todo = missing.todo.get(node.index, 0)
        if todo or not run.done:
            changed.add(node.index)
        nodes.append(
            {
                "index": node.index,
                "name": node.name,
                "kind": node.kind,
                "parents": [parent.index for parent in node.parents],
                "reused": run.reused,
                "todo": todo,
                "waits": (not run.done and not todo) or any(p.index in changed for p in node.parents),
                "why": _why(node, run, todo, changed, before),
            }
        )
    models = {name: model.identity() for name, model in plan.models.items()}
    return {"recipe": plan.file, "store": store.root, "nodes": nodes, "models": models, "unused": plan.unused}


def _why(node: Node, run: NodeRun, todo: int, changed: set[int], before: dict[str, Any]) -> str:
    if not todo and run.done:
        return ""
    if not before:
        return "first run of this recipe"
    for step in node.steps:
        old = before.get(f"{step.flow}.{step.name}")
        if old is None:
            return f"{step.name} is new"
        if old != _plain(step.spec):
            return f"{step.name}: {_difference(old, _plain(step.spec))}"
    upstream = [parent.name for parent in node.parents if parent.index in changed]
    if upstream:
        return f"its input changes ({upstream[0]})"
    if node.output and run.reused:
        return f"some of its files are not in {node.output[1].to}"
    return "files are new or changed" if node.kind == "source" else "what it reads has changed"


def _difference(old: Any, new: Any, path: str = "") -> str:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                return _difference(old.get(name), new.get(name), f"{path}.{name}" if path else name)
    return f"{path.removeprefix('options.')} {old!r} -> {new!r}"


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _name(plan: Plan) -> str:
    where = os.path.abspath(plan.file) if is_local(plan.file) else plan.file
    return f"last/{fingerprint(where)[:16]}.json"


def remember(store: Store, plan: Plan) -> None:
    """Keep the steps of this run, so that the next plan can say what changed."""
    steps = {f"{step.flow}.{step.name}": step.spec for node in plan.nodes for step in node.steps}
    store.put(_name(plan), json.dumps(steps).encode())


def _remembered(store: Store, plan: Plan) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(store.read(_name(plan)))
    except FileNotFoundError:
        return {}
    return found
