"""Tables and panels for people. Everything here goes to the terminal and nowhere else."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def size(count: float) -> str:
    """Bytes with a unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def number(value: Any) -> str:
    """A figure with as many digits as help."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"
    return f"{value:,}"


def large(count: float) -> str:
    """A count that may be very large, in a few characters."""
    for unit in ("", " k", " M", " G"):
        if count < 999.5:
            return f"{count:.3g}{unit}"
        count /= 1000
    return f"{count:,.3g} T"


def seconds(count: float) -> str:
    """A span of time with the unit that helps."""
    if count < 120:
        return f"{count:.3g} s"
    return f"{count / 60:.1f} min" if count < 7200 else f"{count / 3600:,.1f} h"


def table(*columns: str, title: str | None = None) -> Table:
    """A plain table; a column whose name begins with `>` is aligned to the right."""
    made = Table(
        title=title, title_justify="left", title_style="bold", box=None, padding=(0, 2, 0, 0), header_style="dim"
    )
    for column in columns:
        made.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return made


def summary(console: Console, report: dict[str, Any]) -> None:
    """What went in, what came out, what was dropped and why."""
    for output in report["outputs"]:
        made = table("step", "what", ">read", ">kept", ">rejected", "why", title=f"\n{output['name']}")
        for step in output["steps"]:
            rejected = sum(step["rejected"].values())
            others = {"not taken": step["left"], "taken again": step["repeated"]}
            counts = [*step["rejected"].items(), *((what, count) for what, count in others.items() if count)]
            why = ", ".join(f"{count:,} {what}" for what, count in counts)
            label = f"{step['flow']}.{step['step']}"
            made.add_row(
                label, step["use"], f"{step['read']:,}", f"{step['kept']:,}", f"{rejected:,}" if rejected else "", why
            )
        console.print(made)
        for flow, shares in output["mixtures"].items():
            mixture(console, flow, shares)
        console.print(
            f"\n[bold]{output['samples']:,}[/] samples in {output['shards']:,} shards, {size(output['bytes'])}"
            + f" [dim]({escape(licenses(output))})[/]"
            + f"\n{output['rejected']:,} rejects, each with its reason, in [cyan]{escape(output['path'])}/rejected[/]"
            + f"\n-> [bold cyan]{escape(output['path'])}[/]",
            highlight=False,
        )
    for lost in report["errors"]:
        first = f", the first to {lost['first']}" if lost["first"] else ""
        text = f"{lost['flow']}.{lost['step']} lost {lost['lost']:,} samples to errors{first}"
        console.print(f"[yellow]{escape(text)}[/]", highlight=False)
    unused(console, report)
    if not report["outputs"]:
        console.print("no outputs: the results of the flows are in the store")
    work = report["work"]
    console.print(
        f"[dim]{work['seconds']:.1f} s; {work['reused']:,} of {work['jobs']:,} units of work were there already; "
        f"log {escape(report['log'])}[/]",
        highlight=False,
    )


def mixture(console: Console, flow: str, shares: list[dict[str, Any]]) -> None:
    """What a mixture took of each source, and which were too small."""
    taken = sum(share["taken"] for share in shares)
    made = table("source", ">size", ">wanted", ">taken", ">share", ">epochs", title=f"\nmixture {flow}")
    for share in shares:
        epochs = share["taken"] / share["size"] if share["size"] else 0
        figures = (f"{share['size']:,}", f"{share['wanted']:,}", f"{share['taken']:,}")
        made.add_row(share["source"], *figures, f"{share['taken'] / taken:.1%}" if taken else "", f"{epochs:.2f}")
    console.print(made, highlight=False)
    for share in shares:
        if share["short"]:
            text = f"{share['source']} is too small for its weight: {share['short']:,} were taken from others instead"
            console.print(f"[yellow]{escape(text)}; more epochs or a smaller weight would help[/]", highlight=False)


def missing(console: Console, keys: list[str]) -> None:
    """Listed keys that were not there."""
    if keys:
        more = f" and {len(keys) - 5:,} more" if len(keys) > 5 else ""
        text = f"{len(keys):,} of the listed keys were not in the data set: {', '.join(keys[:5])}{more}"
        console.print(f"[yellow]{escape(text)}[/]", highlight=False)


def holders(console: Console, found: list[dict[str, Any]]) -> None:
    """The versions that still hold what was taken down."""
    if not found:
        console.print("no published version holds any of them now")
        return
    console.print("\n[yellow]Versions are never changed: drop the samples from these too, or remove them[/]")
    made = table("still held by", ">samples")
    for version in found:
        made.add_row(version["path"], number(version["samples"]))
    console.print(made, highlight=False)


def licenses(found: dict[str, Any]) -> str:
    """Samples by licence, and how many state none."""
    none = found["samples"] - sum(found["licenses"].values())
    stated = [f"{name} {count:,}" for name, count in found["licenses"].items()]
    if not stated:
        return "no licence stated"
    return ", ".join(stated + ([f"none stated {none:,}"] if none else []))


def plan(console: Console, report: dict[str, Any]) -> None:
    """The graph of a recipe, with what is reused and why the rest is not."""
    made = table("", "segment", "kind", "after", ">reused", ">to do", "why")
    for node in report["nodes"]:
        todo = f"{node['todo']:,}" if not node["waits"] else f"{node['todo']:,}+" if node["todo"] else "?"
        made.add_row(
            str(node["index"]),
            node["name"],
            node["kind"],
            ", ".join(map(str, node["parents"])),
            f"{node['reused']:,}" if node["reused"] else "",
            todo if node["todo"] or node["waits"] else "",
            node["why"],
        )
    console.print(made)
    for name, model in report["models"].items():
        console.print(f"[dim]model[/] {name}: {escape(str(model))}", highlight=False)
    console.print(f"[dim]store[/] {escape(report['store'])}", highlight=False)
    unused(console, report)


def unused(console: Console, report: dict[str, Any]) -> None:
    """Flows that are not run, so that nobody waits for what they would have made."""
    for flow in report["unused"]:
        console.print(f"[yellow]the flow {escape(flow)!r} is used by no output and is not run[/]", highlight=False)


def sample(console: Console, row: dict[str, Any]) -> None:
    """One sample, every value that it has."""
    made = table("", "")
    made.show_header = False
    for name, value in row.items():
        if value is None or name == "key":
            continue
        if name == "parts":
            for part in value:
                where = f"{part['uri']} @{part['offset']:,}" + (f" [{part['view']}]" if part["view"] else "")
                made.add_row(f"part {part['name']}", f"{part['format']}, {size(part['size'])}  [dim]{escape(where)}[/]")
        elif isinstance(value, dict):
            for inner, found in value.items():
                if found is not None:
                    made.add_row(f"{name}.{inner}", escape(_short(found)))
        else:
            made.add_row(name, escape(_short(value)))
    console.print(f"[bold]{escape(str(row['key']))}[/]", highlight=False)
    console.print(made, highlight=False)


def _short(value: Any) -> str:
    text = number(value) if isinstance(value, float) else str(value)
    return text if len(text) <= 600 else f"{text[:600]}… ({len(text):,} characters)"
