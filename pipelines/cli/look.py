"""Data sets: look at them and check them."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.base import DataArgument, JsonOption, StoreOption, command, console, jsonable, print_json
from schemas.errors import OmnicurateError

if TYPE_CHECKING:
    from rich.console import Console

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
    show: Callable[[Console, Any], None]
    if sql is not None:
        found, show = select(opened, sql), render.selected
    elif condition is not None:
        found, show = what_if(opened, condition, paths), render.what_if
    elif columns:
        found, show = summary(opened), render.summary
    else:
        found, show = stats(opened, paths), render.stats
    _tell(found, show, as_json)


@command("diff")
def diff_command(
    old: Annotated[str, typer.Argument(help="Data set or version; alone, its two newest versions are compared.")],
    new: Annotated[str | None, typer.Argument(help="Data set or version to compare with.")] = None,
    keys: Annotated[
        bool, typer.Option("--keys", help="List every added (+), removed (-) and changed (~) key.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """What changed between two versions: recipe, steps, samples added, removed and changed."""
    from pipelines.inspect.dataset import open_dataset
    from pipelines.inspect.diff import changed_keys, diff, newest_versions
    from pipelines.render import diff as render

    pair = (old, new) if new is not None else newest_versions(old)
    before, after = map(open_dataset, pair)
    if keys:
        listed = changed_keys(before, after)
        if as_json:
            print_json([{"change": change, "key": key} for change, key in listed])
            return
        for change, key in listed:
            print(f"{render.MARKS[change]} {key}")
        return
    _tell(diff(before, after), render.diff, as_json)


@command("trace")
def trace_command(
    data: DataArgument, key: Annotated[str, typer.Argument(help="Key of a sample.")], as_json: JsonOption = False
) -> None:
    """How a sample came to be: its source, the steps with what each wrote, the decision, its ancestors."""
    from pipelines.inspect.dataset import open_dataset
    from pipelines.inspect.trace import trace
    from pipelines.render import trace as render

    _tell(trace(open_dataset(data), key), render.trace, as_json)


def _tell(found: Any, show: Callable[[Console, Any], None], as_json: bool) -> None:
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
            print(json.dumps(row, ensure_ascii=False, default=jsonable))
        return
    from pipelines import render

    terminal = console()
    for row in rows:
        render.sample(terminal, row)
        terminal.print()
    if not rows:
        terminal.print("nothing to show")


@command("view")
def view_command(
    data: DataArgument,
    host: Annotated[
        str, typer.Option(help="Address to listen at; others than loopback let everybody look.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; any free one when left out.")] = 0,
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only say where the viewer is.")] = False,
    store: StoreOption = ".omnicurate",
) -> None:
    """Look through samples and rejects in a browser: media, conversations, scores; filter by SQL or by clicks."""
    import webbrowser

    from pipelines.inspect.dataset import open_dataset
    from pipelines.view.server import viewer
    from schemas.store import Store

    with viewer(open_dataset(data), Store(store), host, port) as server:
        print(f"{server.url} (Ctrl-C ends it)", flush=True)
        if not no_browser:
            webbrowser.open(server.url)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


@command("report")
def report_command(
    data: DataArgument,
    output: Annotated[str, typer.Option("--output", "-o", help="HTML file to write.")] = "report.html",
    store: StoreOption = ".omnicurate",
) -> None:
    """Write one HTML file on a data set, with its media in it: funnel, histograms, balance, samples, rejects."""
    from pathlib import Path

    from pipelines.inspect.dataset import open_dataset
    from pipelines.render import size
    from pipelines.report.report import report
    from schemas.errors import OmnicurateError
    from schemas.store import Store

    page = report(open_dataset(data), Store(store))
    try:
        Path(output).write_bytes(page)
    except OSError as error:
        raise OmnicurateError(f"cannot write {output}: {error.strerror}", "-o names another file") from None
    print(f"wrote {output}, {size(len(page))}")


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
