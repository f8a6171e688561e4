"""Recipes: run, plan, and the runs that go on or went."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipelines.cli.base import (
    AddressOption,
    DataArgument,
    EngineOption,
    JsonOption,
    RecipeArgument,
    RunArgument,
    SetOption,
    StoreOption,
    WorkersOption,
    command,
    console,
    print_json,
    settings_of,
)

if TYPE_CHECKING:
    from pipelines.engine import Engine
    from pipelines.plan import Plan


@command("run")
def run_command(
    recipe: RecipeArgument,
    changed: SetOption = None,
    engine: EngineOption = "ray",
    address: AddressOption = "local",
    workers: WorkersOption = None,
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

    plan = make_plan(recipe, settings=settings_of(changed))
    store = Store(store_root(plan))
    if detach:
        arguments = [argument for argument in sys.argv[1:] if argument != "--detach"]
        name = start_detached(store, recipe, arguments)
        print(json.dumps({"run": name}) if as_json else f"run {name}: omnicurate status {name} --store {store.root}")
        return
    report = _run(plan, store, recipe, engine, address, workers, limit, quiet=as_json)
    _tell(report, as_json)


@command("mix")
def mix_command(
    recipe: RecipeArgument,
    changed: SetOption = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the recipe's.")] = None,
    engine: EngineOption = "ray",
    address: AddressOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Regenerate a recipe's mixtures, with other weights or another seed, from the media that are there."""
    from pipelines.plan import make_plan, store_root
    from schemas.store import Store

    settings = {**settings_of(changed), **({} if seed is None else {"seed": str(seed)})}
    plan = make_plan(recipe, settings=settings).only("mix")
    report = _run(plan, Store(store_root(plan)), recipe, engine, address, workers, None, quiet=as_json)
    _tell(report, as_json)


@command("drop")
def drop_command(
    data: DataArgument,
    keys: Annotated[str, typer.Option(help="The keys to drop: one a line, or a table with a column `key`.")],
    within: Annotated[
        str | None, typer.Option(help="Look below this folder for versions that hold them; beside DATA if left out.")
    ] = None,
    store: StoreOption = ".omnicurate",
    engine: EngineOption = "local",
    workers: WorkersOption = None,
    as_json: JsonOption = False,
) -> None:
    """Publish a data set without some samples and all that was made of them; say which versions still hold any."""
    from pipelines.plan import store_root
    from pipelines.takedown import holders, missing_keys, takedown_plan
    from schemas.store import Store

    plan = takedown_plan(data, keys, store)
    missing = missing_keys(plan, keys)
    report = _run(plan, Store(store_root(plan)), plan.file, engine, "local", workers, None, quiet=as_json)
    [output] = plan.recipe.outputs.values()
    beside = os.path.dirname(output.to)
    report["missing"] = missing
    report["holders"] = [{**found, "path": _below_here(found["path"])} for found in holders(within or beside, keys)]
    if as_json:
        print_json(report)
        return
    from pipelines import render

    render.summary(console(), report)
    render.missing(console(), missing)
    render.holders(console(), report["holders"])


def _tell(report: dict[str, Any], as_json: bool) -> None:
    """Show what a run did."""
    if as_json:
        print_json(report)
        return
    from pipelines import render

    render.summary(console(), report)


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
    terminal = Console(stderr=True, quiet=quiet, width=None if sys.stderr.isatty() else 160)
    outcome, message = "killed", ""
    with open(state.log_path, "a", encoding="utf-8") as file, _terminable():
        log = Log(file)
        log.line(f"omnicurate run {recipe} on {store.root}")
        try:
            with (
                executor_for(kind, store, plan.models, address, workers) as executor,
                Display(log, terminal, state) as display,
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
                    "mixtures": manifest["mixtures"],
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
def plan_command(recipe: RecipeArgument, changed: SetOption = None, as_json: JsonOption = False) -> None:
    """Check a recipe and show its graph: what would be reused, what done, and why."""
    from pipelines.explain import explain
    from pipelines.plan import make_plan

    report = explain(make_plan(recipe, settings=settings_of(changed)))
    if as_json:
        print_json(report)
    else:
        from pipelines import render

        render.plan(console(), report)


@command("status")
def status_command(run: RunArgument = None, store: StoreOption = ".omnicurate", as_json: JsonOption = False) -> None:
    """How a run goes, or went."""
    from pipelines.runs import find_run
    from schemas.store import Store

    state = find_run(Store(store), run)
    if as_json:
        print_json({**state.data, "outcome": state.outcome})
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
        print_json({**report, **kept})
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
