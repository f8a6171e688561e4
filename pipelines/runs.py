"""Runs as people see them: one at a time or detached, each with a state file and a log."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from schemas.errors import OmnicurateError
from schemas.store import Store

_SAVE_EVERY = 1.0  # seconds
_NEWEST = 5  # runs that are named where one is not found
DETACHED_ID = "OMNICURATE_RUN_ID"


def runs_dir(store: Store) -> Path:
    """Where runs on a store keep their state: beside it, or in the user's cache when the store is remote."""
    if store.local:
        return Path(store.root, "runs")
    name = hashlib.blake2b(store.root.encode(), digest_size=8).hexdigest()
    return Path(os.path.expanduser("~/.cache/omnicurate/runs"), name)


@dataclass
class RunState:
    """The state file of one run; written by its driver, read by `status`, `cancel` and `gc`."""

    folder: Path
    data: dict[str, Any] = field(default_factory=dict)
    _saved: float = 0.0

    @property
    def log_path(self) -> Path:
        """The run's log file."""
        return self.folder / "log.txt"

    def save(self, rows: list[dict[str, Any]] | None = None, force: bool = False) -> None:
        """Write the state, at most once a second unless forced."""
        if not force and time.monotonic() - self._saved < _SAVE_EVERY:
            return
        self._saved = time.monotonic()
        if rows is not None:
            self.data["nodes"] = rows
        self.data["updated"] = time.time()
        temporary = self.folder / f".state-{os.getpid()}"
        temporary.write_text(json.dumps(self.data, indent=1))
        os.replace(temporary, self.folder / "state.json")

    def finish(self, outcome: str, message: str = "") -> None:
        """Note how the run ended: done, failed or cancelled."""
        self.data.update(outcome=outcome, message=message)
        self.save(force=True)

    @property
    def alive(self) -> bool:
        """Whether the driver is still there."""
        return self.data.get("outcome") == "running" and _same_process(self.data["pid"], self.data["process"])

    @property
    def outcome(self) -> str:
        """running, done, failed, cancelled, or killed when the driver is gone without a word."""
        found: str = self.data.get("outcome", "unknown")
        return "killed" if found == "running" and not self.alive else found


def _process_start(pid: int) -> str:
    """When a process started, in the kernel's ticks: tells it from a later one with the same number."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _same_process(pid: int, start: str) -> bool:
    return bool(start) and _process_start(pid) == start


def new_run(store: Store, recipe: str) -> RunState:
    """A fresh run folder; its name sorts by time."""
    name = os.environ.pop(DETACHED_ID, None) or f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = runs_dir(store) / name
    folder.mkdir(parents=True, exist_ok=True)
    state = _begun(folder, os.getpid(), recipe)
    state.save(force=True)
    return state


def _begun(folder: Path, pid: int, recipe: str) -> RunState:
    state = RunState(folder, {"id": folder.name, "recipe": recipe, "pid": pid, "process": _process_start(pid)})
    state.data.update(outcome="running", started=time.time(), nodes=[])
    return state


def all_runs(store: Store) -> Iterator[RunState]:
    """The runs on a store, newest first."""
    folder = runs_dir(store)
    for path in sorted(folder.iterdir(), reverse=True) if folder.exists() else ():
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError):
            yield RunState(path, json.loads((path / "state.json").read_text()))


def find_run(store: Store, name: str | None) -> RunState:
    """A run by its id, or the newest. Raises OmnicurateError."""
    runs = list(all_runs(store))
    if name is None and runs:
        return runs[0]
    for run in runs:
        if run.data["id"] == name:
            return run
    if not runs:
        raise OmnicurateError(f"no run has been made on the store {store.root}")
    newest = "\n  ".join(run.data["id"] for run in runs[:_NEWEST])
    raise OmnicurateError(f"there is no run {name!r} on the store {store.root}", f"the newest are:\n  {newest}")


def detach(store: Store, recipe: str, arguments: list[str]) -> str:
    """Start the same command in a process of its own, and return its run's id."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    folder = runs_dir(store) / name
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "output.txt", "wb") as output:
        command = [sys.executable, "-m", "omnicurate", *arguments]
        environment = {**os.environ, DETACHED_ID: name}
        driver = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True, env=environment
        )
    if not (folder / "state.json").exists():  # until the driver says so itself, for a `status` that comes at once
        _begun(folder, driver.pid, recipe).save(force=True)
    return name


def cancel(run: RunState) -> None:
    """Ask a run to stop; what it has committed stays. Raises OmnicurateError when it is not running."""
    if not run.alive:
        raise OmnicurateError(f"the run {run.data['id']} is not running ({run.outcome})")
    os.kill(run.data["pid"], signal.SIGTERM)
