"""What changed between two versions, for people."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.markup import escape

from pipelines.render import number, table
from pipelines.render.stats import value

MARKS = {"added": "+", "removed": "-", "changed": "~"}
_STYLES = {"added": "green", "removed": "red", "changed": "yellow"}
_ROWS = 12  # of a table of groups


def diff(console: Console, found: dict[str, Any]) -> None:
    """Recipe, steps, samples, groups and some keys."""
    console.print(f"[dim]old[/] {escape(found['old'])}\n[dim]new[/] {escape(found['new'])}", highlight=False)
    if found["recipe"]:
        console.print("\n[bold italic]recipe[/]")
    for change in found["recipe"]:
        old, new = (_short(change[side]) if side in change else "" for side in ("old", "new"))
        mark = f"{old} -> {new}" if old and new else f"+ {new}" if new else f"- {old}"
        console.print(f"{escape(change['path'])}: [bold]{escape(mark)}[/]", highlight=False)
    _samples(console, found)
    _steps(console, found["steps"])
    for group in found["groups"]:
        if any(row["added"] or row["removed"] or row["old"] != row["new"] for row in group["rows"]):
            _group(console, group)
    for change, keys in found["keys"].items():
        if keys:
            more = found["samples"][change] - len(keys)
            rest = f" [dim]and {more:,} more; --keys lists all[/]" if more else ""
            console.print(f"\n[bold italic]{change}[/]{rest}", highlight=False)
        for key in keys:
            console.print(f"[{_STYLES[change]}]{MARKS[change]} {escape(key)}[/]", highlight=False)


def _samples(console: Console, found: dict[str, Any]) -> None:
    samples = found["samples"]
    made = table(">old", ">new", ">added", ">removed", ">changed", title="\nsamples")
    made.add_row(*(number(samples[name]) for name in ("old", "new", "added", "removed", "changed")))
    console.print(made, highlight=False)
    if found["columns"]:
        changed = ", ".join(f"{escape(path)} {count:,}" for path, count in found["columns"].items())
        console.print(f"[dim]changed are[/] {changed}", highlight=False)
    if found["rejected"]:
        why = ", ".join(f"{row['samples']:,} {row['reason']} ({escape(row['step'])})" for row in found["rejected"])
        console.print(f"[dim]of the removed, now rejected[/] {why}", highlight=False)


def _steps(console: Console, steps: list[dict[str, Any]]) -> None:
    made = table("step", "what", ">read", ">", ">kept", ">", ">rejected", ">", title="\nsteps, old and new")
    for step in steps:
        cells = []
        for name in ("read", "kept", "rejected"):
            old, new = (number(step[side][name]) if step[side] else "-" for side in ("old", "new"))
            cells += [f"[dim]{old}[/]", new if new == old else f"[bold]{new}[/]"]
        made.add_row(f"{step['flow']}.{step['step']}", step["use"], *cells)
    if steps:
        console.print(made, highlight=False)


def _group(console: Console, group: dict[str, Any]) -> None:
    made = table(group["by"], ">old", ">new", ">added", ">removed", title=f"\nby {group['by']}")
    for row in group["rows"][:_ROWS]:
        added, removed = (number(row[name]) if row[name] else "" for name in ("added", "removed"))
        cells = (value(row["value"]), number(row["old"]), number(row["new"]))
        made.add_row(*cells, f"[green]{added}[/]", f"[red]{removed}[/]")
    console.print(made, highlight=False)
    if len(group["rows"]) > _ROWS:
        console.print(f"[dim]… and {len(group['rows']) - _ROWS:,} more; --json lists all[/]", highlight=False)


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:200]}…"
