"""The command `omnicurate`. Commands are thin: they parse, call and render; imports are made when a command runs.

Exit codes: 0 done; 1 the run or check failed; 2 the command or the recipe is wrong; 130 interrupted.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any, Literal, ParamSpec, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.engine import Engine
    from pipelines.plan import Plan

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    name="omnicurate",
    help="Turn open corpora into training shards for omni-modal models.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

RecipeArgument = Annotated[str, typer.Argument(help="Recipe file (YAML).")]
DataArgument = Annotated[str, typer.Argument(help="Data set folder, a version of it, a tar, or a folder of tars.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
StoreOption = Annotated[str, typer.Option(help="Store folder or URI.")]
RunArgument = Annotated[str | None, typer.Argument(help="Run id; the newest when left out.")]


def command(name: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Register a command whose expected errors are shown as text, not as tracebacks."""

    def register(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            from schemas.errors import OmnicurateError, RecipeError

            try:
                return function(*args, **kwargs)
            except OmnicurateError as error:
                print(f"error: {error}", file=sys.stderr)
                raise typer.Exit(2 if isinstance(error, RecipeError) else 1) from None
            except BrokenPipeError:
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(1) from None
            except KeyboardInterrupt:
                print("\nstopped; what was committed stays, run again to go on", file=sys.stderr)
                raise typer.Exit(130) from None

        return app.command(name)(guarded)

    return register


def _console() -> Console:
    from rich.console import Console

    # Piped output is for other programs and logs: do not fold it at 80 columns.
    return Console() if sys.stdout.isatty() else Console(width=160)


def _print_json(value: Any) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=1, default=str))


@command("run")
def run_command(
    recipe: RecipeArgument,
    engine: Annotated[Literal["ray", "local"], typer.Option(help="Ray workers, or this process alone.")] = "ray",
    address: Annotated[str, typer.Option(help="Ray cluster to join; `local` starts one here.")] = "local",
    workers: Annotated[int | None, typer.Option(min=1, help="Processors to use with `--address local`.")] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Read only the first N samples of each source.")] = None,
    detach: Annotated[
        bool, typer.Option("--detach", help="Go on in the background; see status, logs, cancel.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run a recipe: validate it, do what has not been done, publish its outputs."""
    from pipelines.plan import make_plan, store_root
    from pipelines.runs import detach as start_detached
    from schemas.store import Store

    plan = make_plan(recipe)
    store = Store(store_root(plan))
    if detach:
        arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
        name = start_detached(store, recipe, arguments)
        print(json.dumps({"run": name}) if as_json else f"run {name}: omnicurate status {name} --store {store.root}")
        return
    report = _run(plan, store, recipe, engine, address, workers, limit, quiet=as_json)
    if as_json:
        _print_json(report)
    else:
        from pipelines import render

        render.summary(_console(), report)


def _run(
    plan: Plan, store: Any, recipe: str, kind: str, address: str, workers: int | None, limit: int | None, quiet: bool
) -> dict[str, Any]:
    from rich.console import Console

    from pipelines.collect import pin
    from pipelines.engine import Engine
    from pipelines.executors import executor_for
    from pipelines.explain import remember
    from pipelines.progress import Display, Log
    from pipelines.runs import new_run
    from schemas.errors import OmnicurateError

    started = time.monotonic()
    state = new_run(store, recipe)
    console = Console(stderr=True, quiet=quiet, width=None if sys.stderr.isatty() else 160)
    outcome, message = "killed", ""
    with open(state.log_path, "a", encoding="utf-8") as file, _terminable():
        log = Log(file)
        log.line(f"omnicurate run {recipe} on {store.root}")
        try:
            with (
                executor_for(kind, store, plan.models, address, workers) as executor,
                Display(log, console, state) as display,
            ):
                engine = Engine(plan, store, executor, display, limit)
                engine.run()
                state.save(display.rows(), force=True)
            if limit is None:
                pin(store, recipe, engine.used, engine.media)
                remember(store, plan)
            outcome = "done"
        except OmnicurateError as error:
            outcome, message = "failed", str(error)
            log.line(f"failed: {error}")
            error.hint = f"{error.hint}\n  log: {state.log_path}".lstrip("\n")
            raise
        except KeyboardInterrupt:
            outcome, message = "cancelled", "stopped by the user"
            raise
        finally:
            log.line(f"ended: {outcome}")
            state.finish(outcome, message)
    return _report(engine, state.log_path, time.monotonic() - started)


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM (from `cancel`, or a batch system) stops a run as cleanly as Ctrl-C."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _report(engine: Engine, log: Any, seconds: float) -> dict[str, Any]:
    from pipelines.pack import PackRun

    outputs = []
    for run in engine.runs:
        if isinstance(run, PackRun) and run.manifest is not None:
            manifest = run.manifest.model_dump()
            outputs.append(
                {
                    "name": run.name,
                    "path": _below_here(f"{run.out.root}/{run.version}"),
                    "samples": manifest["samples"],
                    "shards": len(manifest["shards"]),
                    "bytes": manifest["bytes"],
                    "rejected": manifest["rejected"],
                    "licenses": manifest["licenses"],
                    "steps": manifest["steps"],
                }
            )
    jobs = sum(run.jobs for run in engine.runs)
    work = {"seconds": round(seconds, 3), "jobs": jobs, "reused": sum(run.reused for run in engine.runs)}
    errors = [
        {"flow": run.node.flow, "step": step, "lost": tally.errors, "first": run.first_error}
        for run in engine.runs
        for step, tally in run.tallies.items()
        if tally.errors
    ]
    report = {"outputs": outputs, "unused": engine.plan.unused, "errors": errors, "work": work}
    return {**report, "log": _below_here(str(log))}


def _below_here(path: str) -> str:
    """A path as short as people would type it."""
    here = os.getcwd() + os.sep
    return path.removeprefix(here)


@command("plan")
def plan_command(recipe: RecipeArgument, as_json: JsonOption = False) -> None:
    """Check a recipe and show its graph: what would be reused, what done, and why."""
    from pipelines.explain import explain
    from pipelines.plan import make_plan

    report = explain(make_plan(recipe))
    if as_json:
        _print_json(report)
    else:
        from pipelines import render

        render.plan(_console(), report)


@command("stats")
def stats_command(data: DataArgument, as_json: JsonOption = False) -> None:
    """Counts, sizes, media and a summary of every column."""
    from pipelines import inspect

    found = inspect.stats(inspect.open_dataset(data))
    if as_json:
        _print_json(found)
    else:
        from pipelines import render

        render.stats(_console(), found)


@command("show")
def show_command(
    data: DataArgument,
    key: Annotated[str | None, typer.Argument(help="Key of a sample; the first few when left out.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", min=1, help="How many samples.")] = 3,
    rejects: Annotated[bool, typer.Option("--rejects", help="Rejected samples instead.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show samples (or rejects) with everything that is known of them."""
    from pipelines import inspect

    rows = inspect.rows_of(inspect.open_dataset(data), key, count, rejects)
    if as_json:
        for row in rows:
            print(json.dumps(row, ensure_ascii=False, default=lambda v: v.hex() if isinstance(v, bytes) else str(v)))
        return
    from pipelines import render

    console = _console()
    for row in rows:
        render.sample(console, row)
        console.print()
    if not rows:
        console.print("nothing to show")


@command("verify")
def verify_command(data: DataArgument, as_json: JsonOption = False) -> None:
    """Read every byte of a data set and compare it with what was published."""
    from pipelines.inspect import open_dataset
    from pipelines.verify import verify

    counts, problems = verify(open_dataset(data))
    if as_json:
        _print_json({**counts, "problems": [problem._asdict() for problem in problems]})
    else:
        for problem in problems[:50]:
            print(f"{problem.file}: {problem.what}" + (f" ({problem.member})" if problem.member else ""))
        if len(problems) > 50:
            print(f"… and {len(problems) - 50:,} more; --json lists all")
        verdict = f"{len(problems):,} problem{'s' * (len(problems) > 1)}" if problems else "all well"
        print(f"{counts['samples']:,} samples in {counts['shards']:,} shards: {verdict}")
    if problems:
        raise typer.Exit(1)


@command("ls")
def ls_command(
    folder: Annotated[str, typer.Argument(help="Folder to look below.")] = "out", as_json: JsonOption = False
) -> None:
    """List published data sets and their versions."""
    from pipelines.inspect import versions

    found = versions(folder)
    if as_json:
        _print_json(found)
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
    _console().print(made if found else f"no data set below {folder}", highlight=False)


@command("gc")
def gc_command(
    store: StoreOption = ".omnicurate",
    grace: Annotated[float, typer.Option(min=0, help="Hours for which unused results are kept.")] = 24.0,
    delete: Annotated[bool, typer.Option("--delete", help="Delete; otherwise only say what would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Find what no recipe's last run used, and delete it with --delete. Published data sets are never touched."""
    from pipelines.collect import sweep
    from pipelines.render import size
    from schemas.store import Store

    found = sweep(Store(store), grace * 3600, delete)
    total = sum(item.size for item in found.garbage)
    if as_json:
        report = {"garbage": [i.path for i in found.garbage], "bytes": total, "deleted": delete}
        kept = {"kept": found.kept, "unused_in_grace": found.young, "unused_in_grace_bytes": found.young_bytes}
        _print_json({**report, **kept})
        return
    verb = "deleted" if delete else "would delete"
    print(f"{verb} {len(found.garbage):,} objects, {size(total)}; kept {found.kept:,}, {size(found.kept_bytes)}")
    if found.young:
        waits = f"unused but younger than {grace:g} hours (--grace)"
        print(f"  {found.young:,} of them, {size(found.young_bytes)}, are {waits}")
    for recipe in found.recipes:
        print(f"  kept for {recipe}")
    if found.garbage and not delete:
        print("run again with --delete to delete them")


@command("status")
def status_command(run: RunArgument = None, store: StoreOption = ".omnicurate", as_json: JsonOption = False) -> None:
    """How a run goes, or went."""
    from pipelines.runs import find_run
    from schemas.store import Store

    state = find_run(Store(store), run)
    if as_json:
        _print_json({**state.data, "outcome": state.outcome})
        return
    seconds = state.data.get("updated", 0) - state.data.get("started", 0)
    print(f"{state.data['id']}  {state.outcome}  {seconds:.0f} s  {state.data['recipe']}")
    if state.data.get("message"):
        print(state.data["message"])
    for row in state.data["nodes"]:
        print(f"  {row['node']}: {row['done']}/{row['jobs']} units, {row['kept']:,} kept, {row['rejected']:,} rejected")


@command("logs")
def logs_command(run: RunArgument = None, store: StoreOption = ".omnicurate") -> None:
    """The log of a run: units, deaths of workers, and the exceptions behind rejects."""
    from pipelines.runs import find_run
    from schemas.store import Store

    state = find_run(Store(store), run)
    sys.stdout.write(state.log_path.read_text(encoding="utf-8") if state.log_path.exists() else "")


@command("cancel")
def cancel_command(run: RunArgument = None, store: StoreOption = ".omnicurate") -> None:
    """Stop a run; what it has committed stays."""
    from pipelines.runs import cancel, find_run
    from schemas.store import Store

    state = find_run(Store(store), run)
    cancel(state)
    print(f"asked {state.data['id']} to stop")


@command("schema")
def schema_command(
    markdown: Annotated[
        bool, typer.Option("--markdown", help="The reference of recipes and steps, for reading.")
    ] = False,
) -> None:
    """The JSON schema of recipes, so that editors complete and check them."""
    from pipelines.describe import recipe_schema, reference

    if markdown:
        sys.stdout.write(reference())
    else:
        _print_json(recipe_schema())


@command("doctor")
def doctor_command(as_json: JsonOption = False) -> None:
    """What of the toolkit is usable on this machine, and how to get the rest."""
    from pipelines.describe import doctor

    findings = list(doctor())
    if as_json:
        _print_json([finding._asdict() for finding in findings])
        return
    from pipelines import render

    made = render.table("", "what", "found", "to get it", "used by")
    for found in findings:
        mark = "[green]ok[/]" if found.fine else "[yellow]--[/]"
        made.add_row(
            mark, found.what, found.found, "" if found.fine else found.remedy.replace("[", "\\["), found.used_by
        )
    _console().print(made, highlight=False)


@command("new")
def new_command(
    kind: Annotated[Literal["recipe", "stage"], typer.Argument(help="What to begin.")],
    path: Annotated[str, typer.Argument(help="File to write.")],
) -> None:
    """Write a starter recipe or a starter stage."""
    from pipelines.describe import write_starter

    following = write_starter(kind, path)
    print(f"wrote {path}; next: {following}")
