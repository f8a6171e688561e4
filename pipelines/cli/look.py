"""Data sets: look at them and check them."""

from __future__ import annotations

import json
import time
from typing import Annotated, Any

import typer

from pipelines.cli.base import DataArgument, JsonOption, command, console, print_json
from schemas.errors import OmnicurateError

ByOption = Annotated[str, typer.Option("--by", help="Groups: columns such as task or loss.step, with commas.")]


@command("ls")
def ls_command(
    folder: Annotated[str, typer.Argument(help="Folder to look below.")] = "out", as_json: JsonOption = False
) -> None:
    """List published data sets and their versions."""
    from pipelines.inspect.dataset import versions

    found = versions(folder)
    if as_json:
        print_json(found)
        return
    from pipelines import render

    made = render.table("data set", "version", "", ">samples", ">rejected", ">shards", ">bytes", "published")
    for row in found:
        if row["state"] != "published":
            made.add_row(row["dataset"], row["version"], row["state"])
            continue
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(row["published"]))
        cells = (f"{row['samples']:,}", f"{row['rejected']:,}", f"{row['shards']:,}", render.size(row["bytes"]), when)
        made.add_row(row["dataset"], row["version"], "latest" if row["latest"] else "", *cells)
    console().print(made if found else f"no data set below {folder}", highlight=False)


@command("stats")
def stats_command(
    data: DataArgument,
    by: ByOption = "",
    columns: Annotated[bool, typer.Option("--columns", help="Every column and medium instead: takes longer.")] = False,
    condition: Annotated[
        str | None, typer.Option("--what-if", metavar="SQL", help="Count what would meet a condition: `loss.mean < 2`.")
    ] = None,
    sql: Annotated[
        str | None, typer.Option("--sql", metavar="SQL", help="One SELECT over samples, rejects and lineage.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Count what a data set holds, by source, task, language and modality or any column; ask what a filter would do."""
    from pipelines.inspect.dataset import open_dataset
    from pipelines.inspect.stats import select, stats, summary, what_if
    from pipelines.render import stats as render

    if sum((columns, condition is not None, sql is not None)) > 1 or (by and (columns or sql is not None)):
        raise OmnicurateError("--columns, --what-if and --sql exclude each other; --by goes with --what-if alone")
    opened = open_dataset(data)
    paths = [path.strip() for path in by.split(",") if path.strip()]
    found: Any
    if sql is not None:
        found, show = select(opened, sql), render.selected
    elif condition is not None:
        found, show = what_if(opened, condition, paths), render.what_if
    elif columns:
        found, show = summary(opened), render.summary
    else:
        found, show = stats(opened, paths), render.stats
    if as_json:
        print_json(found)
    else:
        show(console(), found)


@command("show")
def show_command(
    data: DataArgument,
    key: Annotated[str | None, typer.Argument(help="Key of a sample; the first few when left out.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many samples.")] = 3,
    rejects: Annotated[bool, typer.Option("--rejects", help="Rejected samples instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show samples (or rejects) with everything that is known of them."""
    from pipelines.inspect.dataset import open_dataset
    from pipelines.inspect.rows import rows_of

    rows = rows_of(open_dataset(data), key, count, rejects)
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False, default=lambda v: v.hex() if isinstance(v, bytes) else str(v)))
        return
    from pipelines import render

    terminal = console()
    for row in rows:
        render.sample(terminal, row)
        terminal.print()
    if not rows:
        terminal.print("nothing to show")


@command("verify")
def verify_command(data: DataArgument, as_json: JsonOption = False) -> None:
    """Read every byte of a data set and compare it with what was published."""
    from pipelines.inspect.dataset import open_dataset
    from pipelines.inspect.verify import verify

    counts, problems = verify(open_dataset(data))
    if as_json:
        print_json({**counts, "problems": [problem._asdict() for problem in problems]})
    else:
        for problem in problems[:50]:
            print(f"{problem.file}: {problem.what}" + (f" ({problem.member})" if problem.member else ""))
        if len(problems) > 50:
            print(f"… and {len(problems) - 50:,} more; --json lists all")
        verdict = f"{len(problems):,} problem{'s' * (len(problems) > 1)}" if problems else "all well"
        print(f"{counts['samples']:,} samples in {counts['shards']:,} shards: {verdict}")
    if problems:
        raise typer.Exit(1)
