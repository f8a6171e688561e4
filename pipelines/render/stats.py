"""Tables of what data sets hold."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape

from pipelines.render import large, licenses, number, seconds, size, table

_ROWS = 20  # of a table of groups
_WIDE = 110  # columns of a terminal that has room for every figure
_QUANTILES = ("p5", "p50", "p95")


def stats(console: Console, found: dict[str, Any]) -> None:
    """Counts, groups and measures of a data set."""
    head = table("", "")
    head.show_header = False
    head.add_row("samples", number(found["samples"]))
    if "rejected" in found:
        head.add_row("rejected", number(found["rejected"]))
    if "licenses" in found:
        head.add_row("licences", escape(licenses(found)))
    if found.get("problems"):
        head.add_row("problems", ", ".join(f"{escape(name)} {count:,}" for name, count in found["problems"].items()))
    head.add_row("shards", f"{found['shards']:,}, {size(found['bytes'])}")
    for name, show in (("shard_bytes", size), ("shard_samples", number)):
        if name in found and found["shards"] > 1:
            label = "  bytes" if name == "shard_bytes" else "  samples"
            low, mean, high = (show(found[name][key]) for key in ("min", "mean", "max"))
            head.add_row(label, f"{low} to {high}, mean {mean}")
    for name in ("tokens", "characters"):
        if name in found:
            head.add_row(name, number(found[name]))
    if found.get("duration"):
        head.add_row("duration", seconds(found["duration"]))
    console.print(head, highlight=False)
    for group in found["groups"]:
        _groups(console, group, found)
    _numbers(console, found)


def _groups(console: Console, group: dict[str, Any], found: dict[str, Any]) -> None:
    rows, total = group["rows"], found["samples"]
    length = next((name for name in ("tokens", "characters") if name in found), None)
    durations = "duration" in found
    resolutions = any(row["median"].get("width") for row in rows)
    names = [*(escape(name) for name in group["by"]), ">samples", ">", ">media"]
    names += [f">{length}"] * bool(length) + [">duration", ">median"] * durations + [">resolution"] * resolutions
    made = table(*names, title=f"\nby {', '.join(group['by'])}")
    for row in rows[:_ROWS]:
        share = f"{row['samples'] / total:.1%}" if total else ""
        cells = [value(inner) for inner in row["group"].values()]
        cells += [number(row["samples"]), share, size(row["bytes"]) if row["bytes"] else ""]
        median = row["median"]
        if length:
            cells.append(large(row[length]) if row[length] else "")
        if durations:
            cells += [seconds(row["duration"]) if row["duration"] else ""]
            cells += [seconds(median["duration"]) if median["duration"] is not None else ""]
        if resolutions:
            cells.append(f"{median['width']}×{median['height']}" if median["width"] else "")
        made.add_row(*cells)
    console.print(made, highlight=False)
    if len(rows) > _ROWS:
        console.print(f"[dim]… and {len(rows) - _ROWS:,} more; --json lists all[/]", highlight=False)


def value(of: Any) -> str:
    """The value of a group."""
    return "[dim]none[/]" if of is None else escape(number(of) if isinstance(of, float) else str(of))


def _numbers(console: Console, found: dict[str, Any]) -> None:
    of = f" [not bold dim]of {found['picked']:,} samples[/]" if found["picked"] < found["samples"] else ""
    made = table("column", ">present", *(f">{name}" for name in _QUANTILES), title=f"\nquantiles{of}")
    for row in found["quantiles"]:
        made.add_row(escape(row["column"]), f"{row['present']:.1%}", *(number(row[name]) for name in _QUANTILES))
    if found["quantiles"]:
        console.print(made, highlight=False)


def summary(console: Console, found: dict[str, Any]) -> None:
    """The media by part, and every column."""
    if found["media"]:
        made = table("part", "format", ">samples", ">bytes", title="media")
        for row in found["media"]:
            made.add_row(escape(row["name"]), escape(row["format"]), number(row["samples"]), size(row["bytes"]))
        console.print(made, highlight=False)
        console.print()
    figures = ("min", *_QUANTILES, "max", "mean") if console.width >= _WIDE else ("min", "p50", "max")
    made = table("column", "type", ">present", ">distinct ~", *(f">{name}" for name in figures), title="columns")
    for row in found["columns"]:
        kind = "text" if row["measure"] == "length" else row["type"]
        cells = (row["present"], row["distinct"], *(row[name] for name in figures))
        made.add_row(escape(row["column"]), escape(kind), *map(number, cells))
    console.print(made, highlight=False)
    console.print("[dim]of text, the lengths in characters[/]")


def selected(console: Console, rows: list[dict[str, Any]]) -> None:
    """The answer to somebody's SQL."""
    if not rows:
        console.print("no rows")
        return
    numeric = {name: all(isinstance(row[name], (int, float, type(None))) for row in rows) for name in rows[0]}
    made = table(*(f">{escape(name)}" if right else escape(name) for name, right in numeric.items()))
    for row in rows:
        made.add_row(*(number(cell) if numeric[name] else value(cell) for name, cell in row.items()))
    console.print(made, highlight=False)


def what_if(console: Console, found: dict[str, Any]) -> None:
    """What a condition would keep and drop."""
    console.print(f"if [bold]{escape(found['condition'])}[/]\n", highlight=False)
    made = table(*map(escape, found["by"]), ">samples", ">kept", ">dropped", ">")
    for row in [*found["rows"][:_ROWS]]:
        made.add_row(*map(value, row["group"].values()), *_verdict(row))
    total = {name: found[name] for name in ("samples", "kept", "dropped")}
    made.add_section()
    made.add_row("[bold]all[/]", *[""] * (len(found["by"]) - 1), *_verdict(total), style="bold")
    console.print(made, highlight=False)
    if len(found["rows"]) > _ROWS:
        console.print(f"[dim]… and {len(found['rows']) - _ROWS:,} more; --json lists all[/]", highlight=False)
    if found["rejects"] is None:
        return
    meet, rejected = (sum(row[name] for row in found["rejects"]) for name in ("meet", "rejected"))
    console.print(f"\nof the rejects, {meet:,} of {rejected:,} meet it", highlight=False)
    made = table("rejected by", "why", ">rejected", ">meet it")
    for row in found["rejects"]:
        made.add_row(f"{row['flow']}.{row['step']}", row["reason"], number(row["rejected"]), number(row["meet"]))
    console.print(made, highlight=False)


def _verdict(row: dict[str, int]) -> tuple[str, ...]:
    share = f"{row['kept'] / row['samples']:.1%} kept" if row["samples"] else ""
    return number(row["samples"]), number(row["kept"]), number(row["dropped"]), share
