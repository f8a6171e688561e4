"""Runs are exactly once: whoever is killed, stopped or doubled, the published bytes are those of a calm run."""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from pipelines.engine import Engine
from pipelines.executors import Death, Outcome, Ticket, execute
from pipelines.plan import make_plan
from schemas.store import Store
from tests.e2e.conftest import Calm
from tests.e2e.harness import (
    BUSY,
    RECIPE,
    Toll,
    Work,
    adopting_orphans,
    alive,
    check_conservation,
    harry,
    kill,
    kill_driver,
    running,
    title,
    wait_until,
    workers,
)


def test_drivers_and_workers_that_are_killed_leave_no_mark(calm: Calm, work: Work) -> None:
    toll = harry(work, random.Random(20), calm.commits, 6, 18)
    assert toll.kills >= 20
    assert toll.stragglers == []
    assert work.tree() == calm.tree
    check_conservation(work)


def test_two_runs_at_once(calm: Calm, work: Work) -> None:
    with running(work) as first:
        wait_until(lambda: work.progress() > 3, 60, "the first run to have begun")
        work.run()
        assert first.wait(60) == 0
    assert work.tree() == calm.tree
    check_conservation(work)


def test_a_worker_left_over_from_a_dead_run(calm: Calm, work: Work) -> None:
    toll = Toll()
    with adopting_orphans():
        driver = work.start()
        stopped: list[psutil.Process] = []
        try:
            wait_until(lambda: work.progress() > 40, 60, "the run to get somewhere")
            stopped = wait_until(lambda: workers(driver.pid, BUSY), 30, "a worker at work")
            for process in stopped:
                process.suspend()
            kill_driver(driver, toll, raylet_first=True)
            work.run()
            left = alive(stopped)
            assert left, "no worker outlived its run"
            assert work.tree() == calm.tree
            commits = {path: path.stat().st_ino for path in work.commits()}
            for process in left:
                process.resume()
            wait_until(lambda: not any(title(p).startswith(BUSY) for p in alive(left)), 30, "them to finish their jobs")
            assert {path: path.stat().st_ino for path in work.commits()} == commits
            assert work.tree() == calm.tree
            assert work.json()["work"]["jobs"] == work.json()["work"]["reused"]
        finally:
            if driver.poll() is None:
                kill_driver(driver, toll)
            for process in alive(toll.orphans):
                kill(process)


def test_a_mixture_whose_drivers_and_workers_are_killed(work: Work, tmp_path: Path) -> None:
    mix = "  all: [mix: {sources: {many: {epochs: 2}, few: }, total: 500}]\n  many:\n"
    sources = work.recipe.replace("  all:\n", mix, 1)
    recipe = sources.replace("outputs:", "  few: [from: many, select.sample: {share: 0.3}]\noutputs:", 1)
    quiet = Work(tmp_path / "quiet", recipe=recipe)
    quiet.run("--engine", "local")
    work.write(recipe)
    toll = harry(work, random.Random(7), quiet.progress(), 2, 6)
    assert toll.kills == 8
    assert work.tree() == quiet.tree()
    assert len(work.kept()) == 500


@pytest.mark.parametrize("arguments", [("--workers", "1"), ("--workers", "4"), ("--engine", "local")], ids=" ".join)
def test_any_number_of_workers(calm: Calm, work: Work, arguments: tuple[str, str]) -> None:
    work.run(*arguments)
    assert work.tree() == calm.tree


class _Shuffled:
    """Takes all jobs it can get and does them in an order of its own, in this process."""

    def __init__(self, root: str, models: dict[str, Any], seed: int) -> None:
        self._root = root
        self._models = {name: model.load() for name, model in models.items()}
        self._random = random.Random(seed)
        self._waiting: list[Ticket] = []

    def room(self, ticket: Ticket) -> bool:
        return True

    def start(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)

    def wait(self, seconds: float) -> list[tuple[Ticket, Outcome]]:
        self._random.shuffle(self._waiting)
        ticket = self._waiting.pop()
        return [(ticket, execute(self._root, ticket.job, self._models.get(ticket.model or "")))]

    def close(self) -> None: ...


class _Mortal(_Shuffled):
    """Every job dies twice before it is done, once holding some rows and once holding one."""

    def wait(self, seconds: float) -> list[tuple[Ticket, Outcome]]:
        ticket = self._waiting[-1]
        if ticket.deaths:
            return super().wait(seconds)
        self._waiting.pop()
        return [(ticket, Death((3,) if ticket.together else (2, 3, 4), True, "a test"))]


class _Silent:
    def submitted(self, *_: object) -> None: ...
    def committed(self, *_: object) -> None: ...
    def died(self, *_: object) -> None: ...
    def tick(self) -> None: ...


@pytest.mark.parametrize("executor", [_Shuffled, _Mortal])
def test_any_order_of_units_and_deaths_by_chance(
    calm: Calm, work: Work, executor: type[_Shuffled], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work.folder)
    monkeypatch.syspath_prepend(work.folder)
    monkeypatch.delitem(sys.modules, "toys", raising=False)
    plan = make_plan("recipe.yaml")
    store = Store("store")
    Engine(plan, store, executor(store.root, plan.models, seed=1), _Silent()).run()
    assert work.tree() == calm.tree


def test_samples_that_kill_their_worker_are_rejected_and_named(tmp_path: Path) -> None:
    recipe = RECIPE.replace("ms: 3}", "crash_on: 23}", 1).replace("ms: 3}", "crash_on: 31, crash_with: 36}", 1)
    work = Work(tmp_path / "work", files=1, rows=40, recipe=recipe)
    work.run()
    check_conservation(work, lost=("all/f0%2Etxt/23", "all/f0%2Etxt/31"))
    deadly = sorted(row for row in work.rejected() if row[1] == "deadly")
    assert deadly == [("square", "deadly", "all/f0%2Etxt/23"), ("sum", "deadly", "all/f0%2Etxt/31")]
    assert "is rejected as deadly" in work.log()
    assert work.json()["work"]["jobs"] == work.json()["work"]["reused"]


def test_decoys_in_the_working_directory_are_never_imported(calm: Calm, work: Work) -> None:
    for name in ("stages", "schemas", "pipelines"):
        folder = work.folder / name
        folder.mkdir()
        witness = work.folder / f"{name}-was-imported"
        code = f"open({str(witness)!r}, 'w').close()\nraise RuntimeError('a decoy was imported')\n"
        for file in ("__init__.py", "base.py", "work.py", "columns.py"):
            (folder / file).write_text(code)
    work.run()
    assert list(work.folder.glob("*-was-imported")) == []
    assert work.tree() == calm.tree
    work.run("--engine", "local")
    assert list(work.folder.glob("*-was-imported")) == []
