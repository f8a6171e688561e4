"""The engine: finds or does the jobs of a plan's nodes, unit by unit, on an executor.

A unit's job is ready when its parents have committed; deeper nodes go first; what the ledger has is not done again.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

from pipelines.executors import Death, Executor, Failure, Ticket
from pipelines.ledger import Commit, Ledger
from pipelines.mix import MixRun
from pipelines.nodes import (
    CombineRun,
    ExpandRun,
    GatherRun,
    IndexedRun,
    NodeRun,
    OnCommit,
    RowsRun,
    SourceRun,
    UnionRun,
    UnitId,
)
from pipelines.pack import PackRun
from pipelines.plan import Plan
from pipelines.work.bench import Done, Job
from schemas.errors import RunError
from schemas.recipe import ErrorBudget
from schemas.store import Store
from stages.base import Needs

_DEATHS_ALONE = 3
_DEATHS_TOGETHER = 5
_FRUITLESS_DEATHS = 5
_LOSSES = 50
_NODE_RUNS: dict[str, type[NodeRun]] = {
    "source": SourceRun,
    "indexed": IndexedRun,
    "rows": RowsRun,
    "batch": RowsRun,
    "expand": ExpandRun,
    "gather": GatherRun,
    "combine": CombineRun,
    "union": UnionRun,
    "mix": MixRun,
    "pack": PackRun,
}


class Watcher(Protocol):
    """Who is told how a run goes (the progress display, the log)."""

    def submitted(self, run: NodeRun, reused: bool) -> None: ...
    def committed(self, run: NodeRun, done: Done, reused: bool) -> None: ...
    def died(self, run: NodeRun, death: Death, row: int | None) -> None: ...
    def tick(self) -> None: ...


@dataclass
class _Submission:
    run: NodeRun
    then: OnCommit
    tally: bool
    unit: UnitId


class Engine:
    """Runs a plan to its end.

    executor None: nothing is done, only found (for `plan`). limit: samples to read of each source.
    """

    def __init__(
        self, plan: Plan, store: Store, executor: Executor | None, watcher: Watcher, limit: int | None = None
    ) -> None:
        self.plan = plan
        self.store = store
        self.ledger = Ledger(store)
        self.executor = executor
        self.watcher = watcher
        self.limit = limit
        self.used: set[str] = set()
        self.media: set[str] = set()
        self._ready: dict[tuple[str | None, Needs], list[tuple[Any, int, Ticket]]] = {}
        self._flying = 0
        self._sequence = 0
        self._idle: dict[int, Callable[[], None]] = {}
        self.runs = [_NODE_RUNS[node.kind](self, node) for node in plan.nodes]
        for run in self.runs:
            for slot, parent in enumerate(run.node.parents):
                self.runs[parent.index].consumers.append((run, slot))

    def run(self) -> None:
        """Do everything. Raises OmnicurateError when the run cannot go on."""
        for run in self.runs:
            run.start()
        self._settle()
        while self._ready_count() or self._flying:
            self._launch()
            assert self.executor is not None
            for ticket, outcome in self.executor.wait(0.2):
                self._flying -= 1
                self._finish(ticket, outcome)
            self._settle()
            self.watcher.tick()
        if self.executor is not None:
            unfinished = [run.node.name for run in self.runs if not run.done]
            if unfinished:
                raise RunError(f"the run ended with unfinished work: {', '.join(unfinished)}", "please report this")

    def submit(self, run: NodeRun, unit: UnitId, job: Job, then: OnCommit, tally: bool, model: str | None) -> None:
        """Called by node runs: find the commit, or queue the job."""
        submission = _Submission(run, then, tally, unit)
        found = self.ledger.find(job.fp)
        if found is not None and not run.still_there(found):
            found = None
        self.watcher.submitted(run, found is not None)
        if found is not None:
            run.reused += 1
            self._committed(submission, Done(found), reused=True)
        elif self.executor is not None:
            needs = run.node.needs if model is None else self.plan.models[model].needs
            self._queue(Ticket(job, needs, model, submission))

    def when_idle(self, run: NodeRun, action: Callable[[], None]) -> None:
        """Call back once, when the run has no open jobs."""
        self._idle[run.node.index] = action

    def count(self, run: NodeRun, unit: UnitId, commit: Commit) -> None:
        """Take a commit's tallies into the books."""
        run.commits[unit] = commit
        if not commit.published:
            self.used.add(commit.fp)
        self.media.update(commit.media)
        for unit_tally in commit.steps:
            run.tallies[unit_tally.step].add(unit_tally)

    def _queue(self, ticket: Ticket) -> None:
        submission: _Submission = ticket.owner
        self._sequence += 1
        rank = (-submission.run.node.index, submission.unit)
        heapq.heappush(self._ready.setdefault((ticket.model, ticket.needs), []), (rank, self._sequence, ticket))

    def _ready_count(self) -> int:
        return sum(map(len, self._ready.values()))

    def _launch(self) -> None:
        assert self.executor is not None
        for queue in sorted((q for q in self._ready.values() if q), key=lambda q: q[0][0]):
            while queue and self.executor.room(queue[0][2]):
                self.executor.start(heapq.heappop(queue)[2])
                self._flying += 1

    def _finish(self, ticket: Ticket, outcome: Any) -> None:
        if isinstance(outcome, Failure):
            raise outcome.error
        if isinstance(outcome, Death):
            self._retry(ticket, outcome)
        else:
            self._committed(ticket.owner, outcome, reused=False)

    def _retry(self, ticket: Ticket, death: Death) -> None:
        """A worker died: try the rows it held one by one first, and reject the one that kills three alone.

        Then the batches are what they always are, so that a death by chance leaves no mark on the results. Only a
        batch that keeps killing though none of its rows does alone is worked on singly for good.
        """
        run = ticket.owner.run
        convicted = None
        alone = ticket.job.alone
        if not death.counts:
            ticket.losses += 1
            if ticket.losses >= _LOSSES:
                message = f"a unit of {run.node.name} lost its worker {_LOSSES} times before it began: {death.text}"
                raise RunError(message, "a model that does not fit into memory dies while it is loaded; see the log")
        else:
            if not death.rows:
                ticket.fruitless += 1
                if ticket.fruitless >= _FRUITLESS_DEATHS:
                    message = f"workers keep dying in {run.node.name} before they begin: {death.text}"
                    raise RunError(message, "out of memory, or a broken native library; see the log")
            if len(death.rows) == 1:
                [row] = death.rows
                ticket.deaths[row] = ticket.deaths.get(row, 0) + 1
                if ticket.deaths[row] >= _DEATHS_ALONE:
                    convicted = row
            elif death.rows:
                ticket.together[death.rows] = ticket.together.get(death.rows, 0) + 1
                if ticket.together[death.rows] >= 2 * _DEATHS_TOGETHER:
                    message = f"workers keep dying in {run.node.name} on {len(death.rows)} samples: {death.text}"
                    raise RunError(message, "no single one of them does it; out of memory? see the log")
                if ticket.together[death.rows] >= _DEATHS_TOGETHER:
                    alone |= set(death.rows)
        job = ticket.job
        deadly = job.deadly | ({convicted} if convicted is not None else set())
        ticket.job = replace(job, probe=job.probe | set(death.rows), alone=alone, deadly=deadly)
        self.watcher.died(run, death, convicted)
        self._queue(ticket)

    def _committed(self, submission: _Submission, done: Done, reused: bool) -> None:
        run, commit = submission.run, done.commit
        run.open -= 1
        self.used.add(commit.fp)
        self.media.update(commit.media)
        if submission.tally:
            self.count(run, submission.unit, commit)
        self.watcher.committed(run, done, reused)
        if done.notes and run.first_error is None:
            run.first_error = _last_error(done.notes[0].text)
        submission.then(commit)
        if self.executor is not None:
            _check_budget(run, self.plan.recipe.errors)

    def _settle(self) -> None:
        """Let nodes whose parents are done go on, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for run in self.runs:
                if run.done or run.open or run.open_parents:
                    continue
                action = self._idle.pop(run.node.index, None)
                changed = True
                if action is not None:
                    action()
                    continue
                run.done = True
                for consumer, _ in run.consumers:
                    consumer.open_parents -= 1
                    if not consumer.open_parents:
                        consumer.on_parents_done()


def _last_error(text: str) -> str:
    """The line of a traceback that names the last exception; messages may go on below it."""
    lines = [line for line in text.splitlines() if re.match(r"[\w.]+(Error|Exception|Exit|Interrupt)\b", line)]
    return lines[-1] if lines else text.rstrip().rsplit("\n", 1)[-1]


def _check_budget(run: NodeRun, budget: ErrorBudget) -> None:
    for name, tally in run.tallies.items():
        if tally.errors > budget.at_least and tally.errors > budget.share * tally.read:
            raise RunError(
                f"the step {name} of {run.node.flow!r} lost {tally.errors} of {tally.read} samples to errors"
                + (f", the first to {run.first_error}" if run.first_error else ""),
                "the log shows the first ones; `errors: {share: …}` in the recipe sets how many are allowed",
            )
