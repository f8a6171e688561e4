"""What a person sees while a run goes on, and what its log keeps."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from pipelines.executors import Death
    from pipelines.nodes import NodeRun
    from pipelines.work.bench import Done


class Log:
    """A run's log file: what happened to units, deaths, and the exceptions behind rejects."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def line(self, text: str) -> None:
        """One entry with the time of day."""
        self._file.write(f"{time.strftime('%H:%M:%S')} {text}\n")
        self._file.flush()

    def submitted(self, run: NodeRun, reused: bool) -> None: ...

    def committed(self, run: NodeRun, done: Done, reused: bool) -> None:
        commit = done.commit
        if not reused:
            self.line(f"{run.node.name}: commit {commit.fp[:12]} rows={commit.rows} live={commit.live_rows}")
        for note in done.notes:
            self.line(f"{run.node.name}: {note.step} failed on {note.key}\n{note.text.rstrip()}")

    def died(self, run: NodeRun, death: Death, row: int | None) -> None:
        verdict = f"; row {row} is rejected as deadly" if row is not None else "; the unit is tried again"
        self.line(f"{run.node.name}: a worker died with {len(death.rows)} rows in hand ({death.text}){verdict}")

    def tick(self) -> None: ...


class Display:
    """A live table on a terminal, or a line now and then elsewhere, above the log."""

    _EVERY = 10.0  # seconds between lines when there is no terminal

    def __init__(self, log: Log, console: Any, state: Any) -> None:
        from rich.live import Live

        self._log = log
        self._console = console
        self._state = state
        self._runs: dict[int, NodeRun] = {}
        self._started = time.monotonic()
        self._first: dict[int, float] = {}
        self._fresh: dict[int, int] = {}
        self._last_line = self._started
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def submitted(self, run: NodeRun, reused: bool) -> None:
        self._runs[run.node.index] = run

    def committed(self, run: NodeRun, done: Done, reused: bool) -> None:
        self._log.committed(run, done, reused)
        if not reused:
            self._first.setdefault(run.node.index, time.monotonic())
            self._fresh[run.node.index] = self._fresh.get(run.node.index, 0) + done.commit.rows

    def died(self, run: NodeRun, death: Death, row: int | None) -> None:
        self._log.died(run, death, row)

    def tick(self) -> None:
        now = time.monotonic()
        self._state.save(self.rows())
        if self._live:
            self._live.update(self._table())
        elif now - self._last_line >= self._EVERY:
            self._last_line = now
            busy = [row for row in self.rows() if row["done"] < row["jobs"]]
            for row in busy:
                text = (
                    f"{row['node']}: {row['done']}/{row['jobs']} units, {row['kept']} kept, {row['rejected']} rejected"
                )
                self._console.print(f"[{now - self._started:6.0f} s] {text}{_eta(row)}", highlight=False, markup=False)

    def rows(self) -> list[dict[str, Any]]:
        """The state of every node that has begun."""
        rows = []
        for index in sorted(self._runs):
            run = self._runs[index]
            tallies = list(run.tallies.values())
            seconds = time.monotonic() - self._first.get(index, time.monotonic())
            done = run.jobs - run.open
            fresh = done - run.reused
            rate = self._fresh.get(index, 0) / seconds if seconds > 1 else None
            rows.append(
                {
                    "node": run.node.name,
                    "jobs": run.jobs,
                    "done": done,
                    "reused": run.reused,
                    "kept": tallies[-1].kept if tallies else 0,
                    "rejected": sum(sum(t.rejected.values()) for t in tallies),
                    "rate": rate,
                    "eta": run.open * seconds / fresh if fresh > 0 and seconds > 1 else None,
                }
            )
        return rows

    def _table(self) -> Any:
        from rich.table import Table

        table = Table(box=None, padding=(0, 2, 0, 0))
        for name in ("step", "units", "reused", "kept", "rejected", "rows/s", "left"):
            table.add_column(name, justify="left" if name == "step" else "right")
        for row in self.rows():
            units = f"{row['done']}/{row['jobs']}"
            rate = f"{row['rate']:.0f}" if row["rate"] else ""
            left = _clock(row["eta"]) if row["eta"] and row["done"] < row["jobs"] else ""
            cells = (row["node"], units, row["reused"] or "", row["kept"], row["rejected"] or "", rate, left)
            table.add_row(*map(str, cells))
        return table


def _eta(row: dict[str, Any]) -> str:
    return f", {row['rate']:.0f} rows/s, about {_clock(row['eta'])} left" if row["rate"] and row["eta"] else ""


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"
