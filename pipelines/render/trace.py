"""The history of a sample as a tree."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.tree import Tree

from pipelines.render import number

_FACTS = ("source", "origin", "license", "task", "language")
_LONGEST = 120  # characters of a value


def trace(console: Console, found: dict[str, Any]) -> None:
    """Source, steps with what they wrote, the decision, and the ancestors below."""
    console.print(_tree(found), highlight=False)


def _tree(found: dict[str, Any]) -> Tree:
    tree = Tree(f"[bold]{escape(found['key'])}[/]  [dim]{escape(found['dataset'])}[/]", guide_style="dim")
    facts = [f"[dim]{name}[/] {escape(str(found[name]))}" for name in _FACTS if name in found]
    if facts:
        tree.add("  ".join(facts))
    flow = None
    for step in found["steps"]:
        if step["flow"] != flow:
            flow = step["flow"]
            branch = tree.add(f"[dim]flow[/] {escape(flow)}")
        options = ", ".join(f"{name}: {_short(value)}" for name, value in step["options"].items())
        label = f"[cyan]{escape(step['step'])}[/]"
        label += f"  [dim]{escape(step['use'])}[/]" if step["use"] != step["step"] else ""
        made = branch.add(label + (f"  [dim]{escape(options)}[/]" if options else ""))
        for name, value in step["wrote"].items():
            made.add(f"{escape(name)}: {escape(_short(value))}")
    tree.add(_decision(found["decision"]))
    if found["became"]:
        tree.add(f"[green]kept elsewhere[/] as {escape(', '.join(found['became']))}")
    for ancestor in found["ancestors"]:
        where = ancestor["note"] or ancestor["dataset"] or "was its key"
        step, dataset = ancestor["step"], ancestor["dataset"]
        label = f"[dim]before[/] {escape(step)}[dim]:[/] " if step else f"[dim]from[/] {escape(dataset or '')} "
        if ancestor["trace"]:
            tree.add(label).add(_tree(ancestor["trace"]))
        else:
            tree.add(f"{label}[bold]{escape(ancestor['key'])}[/]  [dim]{escape(where)}[/]")
    return tree


def _decision(decision: dict[str, Any]) -> str:
    if decision["kept"]:
        return "[green]kept[/]"
    detail = f": {escape(decision['detail'])}" if decision["detail"] else ""
    return f"[red]rejected[/] by {escape(decision['step'])}, {escape(decision['reason'])}{detail}"


def _short(value: Any) -> str:
    text = (
        number(value)
        if isinstance(value, float)
        else value
        if isinstance(value, str)
        else json.dumps(value, default=str)
    )
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"
