"""Runs recipes as a user does, in processes of their own, and kills them.

Moments of death are chosen by progress (commits in the store), from a seed: never by the clock alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq

TOYS = Path(__file__).resolve().parents[1] / "toys.py"
WORKER = "ray::RayWorker"
BUSY = "ray::RayWorker.run"
_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
_POLL = 0.004  # seconds between looks at a condition

RECIPE = """\
store: store
models:
  adder: {use: "toys:Adder", add: 5}
flows:
  all:
    - toys:Numbers: {root: in, unit: 10}
    - toys:Square: {as: square, bad: 7, ms: 3}
    - toys:AddBatch: {as: sum, model: adder, ms: 3}
    - toys:Twins: {as: twins}
    - filter.where: {as: most, sql: "twins.child < 2 or n = 30"}
    - toys:AboveMean: {as: high}
outputs:
  all: {pack: all, to: out/all, shard: {samples: 40}}
"""
"""Source, map (with media and rejects), batch, expand, filter, gather, pack: `check_conservation` knows the result."""


def wait_until(condition: Callable[[], Any], seconds: float, what: str) -> Any:
    """Poll until something is true (and return it). Raises TimeoutError."""
    deadline = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        if time.monotonic() > deadline:
            raise TimeoutError(f"waited {seconds} s for {what}")
        time.sleep(_POLL)


@dataclass
class Work:
    """A user's folder: inputs in `in`, a recipe, the toys, a store, published data."""

    folder: Path
    files: int = 8
    rows: int = 40
    recipe: str = RECIPE

    def __post_init__(self) -> None:
        (self.folder / "in").mkdir(parents=True)
        shutil.copy(TOYS, self.folder / "toys.py")
        for index in range(self.files):
            self.add_input(f"f{index}.txt")
        self.write(self.recipe)

    def add_input(self, name: str) -> None:
        """One more file of numbers, with a time stamp that is the same in every folder."""
        path = self.folder / "in" / name
        path.write_text(str(self.rows))
        os.utime(path, (1_700_000_000, 1_700_000_000))

    def write(self, recipe: str) -> None:
        """Replace the recipe."""
        (self.folder / "recipe.yaml").write_text(recipe)

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start the recipe in a process group of its own."""
        with open(self.folder / "output.txt", "ab") as output:
            return subprocess.Popen(
                _words("run", arguments), cwd=self.folder, stdout=output, stderr=output, process_group=0
            )

    def run(self, *arguments: str, command: str = "run", code: int = 0, seconds: float = 90) -> str:
        """Run a command to its end, check its exit code, and return what it printed and complained."""
        return "".join(self._run(command, arguments, code, seconds))

    def _run(self, command: str, arguments: Sequence[str], code: int, seconds: float) -> tuple[str, str]:
        done = subprocess.run(
            _words(command, arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            process_group=0,
            timeout=seconds,
            check=False,
        )
        assert done.returncode == code, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout, done.stderr

    def json(self, *arguments: str, command: str = "run") -> Any:
        """Run a command and return its report."""
        return json.loads(self._run(command, (*arguments, "--json"), 0, 90)[0])

    def progress(self) -> int:
        """How many commits the store has."""
        return len(self.commits())

    def commits(self) -> list[Path]:
        """The files of the commits that the store has."""
        return sorted((self.folder / "store" / "commits").glob("*/*.parquet"))

    @property
    def out(self) -> Path:
        """Where the data set's versions are."""
        return self.folder / "out" / "all"

    @property
    def latest(self) -> Path:
        """The version that `latest` names."""
        return self.out / os.readlink(self.out / "latest")

    def tree(self) -> dict[str, str]:
        """Everything published: path -> digest of the bytes, or target of a link.

        What killed writers leave lies beside the versions in one hidden folder, never in a version.
        """
        found = {}
        for path in sorted(self.out.rglob("*")):
            name = path.relative_to(self.out)
            if name.parts[0] == ".tmp":
                continue
            assert not any(part.startswith(".") for part in name.parts), name
            if path.is_symlink():
                found[str(name)] = f"-> {os.readlink(path)}"
            elif path.is_file():
                found[str(name)] = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        return found

    def kept(self) -> list[str]:
        """Keys in the index of the newest version."""
        return [key for path in sorted((self.latest / "index").iterdir()) for key in _column(path, "key")]

    def rejected(self) -> list[tuple[str, str, str]]:
        """(step, reason, key) of the newest version's rejects."""
        return [
            row
            for path in sorted((self.latest / "rejected").iterdir())
            for row in zip(*(_column(path, name) for name in ("step", "reason", "key")), strict=True)
        ]

    def log(self) -> str:
        """All logs of all runs."""
        return "\n".join(path.read_text() for path in sorted((self.folder / "store" / "runs").glob("*/log.txt")))


def _words(command: str, arguments: Sequence[str]) -> list[str]:
    recipe = ["recipe.yaml"] if command in ("run", "plan") else []
    return [sys.executable, "-m", "omnicurate", command, *recipe, *arguments]


def _column(path: Path, name: str) -> list[str]:
    found: list[str] = pq.read_table(path, columns=[name]).column(name).to_pylist()
    return found


def check_conservation(work: Work, lost: Sequence[str] = ()) -> None:
    """Every input, and every child of the expand, is in exactly one of kept and rejected, by what the toys say.

    lost: keys that a step before the expand rejects besides what the recipe always rejects.
    """
    inputs = {
        f"all/{path.stem}%2Etxt/{n}": n for path in (work.folder / "in").iterdir() for n in range(int(path.read_text()))
    }
    kept, rejects = work.kept(), [key for _, _, key in work.rejected()]
    assert len(set(kept)) == len(kept)
    assert len(set(rejects)) == len(rejects)
    assert not set(kept) & set(rejects)
    gone = {key for key, n in inputs.items() if n % 7 == 0 or n == 13 or key in lost}
    children = {
        f"{key}-{child:04d}" for key, n in inputs.items() if key not in gone for child in range(3 if n % 10 == 0 else 2)
    }
    assert set(rejects) & inputs.keys() == gone
    assert set(kept) | (set(rejects) - gone) == children


def descendants(pid: int) -> list[psutil.Process]:
    """Every process below one that we started."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def title(process: psutil.Process) -> str:
    """The command line's first word; Ray names its workers there."""
    try:
        return (process.cmdline() or [""])[0]
    except (psutil.NoSuchProcess, psutil.ZombieProcess):
        return ""


def workers(pid: int, kind: str = WORKER) -> list[psutil.Process]:
    """The Ray workers of a run that we started, in the order of their numbers."""
    return sorted((p for p in descendants(pid) if title(p).startswith(kind)), key=lambda p: p.pid)


def alive(processes: Sequence[psutil.Process]) -> list[psutil.Process]:
    """Those that still run."""
    return [p for p in processes if p.is_running() and _status(p) != psutil.STATUS_ZOMBIE]


def _status(process: psutil.Process) -> str:
    try:
        return str(process.status())
    except psutil.NoSuchProcess:
        return str(psutil.STATUS_ZOMBIE)


def kill(process: psutil.Process) -> None:
    """SIGKILL; no error when it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.kill()


@contextlib.contextmanager
def adopting_orphans() -> Iterator[None]:
    """Be the parent of what is left when a process below us dies (Linux).

    A stopped worker whose raylet dies would else come to a parent outside its session; the kernel sends SIGHUP and
    SIGCONT to such orphaned groups, and the worker would be gone. Idle workers of Ray see the death of their raylet by
    a parent of 1, so the caller ends them.
    """
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    assert prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0
    try:
        yield
    finally:
        assert prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0) == 0


@dataclass
class Toll:
    """What a harried run has gone through."""

    drivers: int = 0
    workers: int = 0
    orphans: list[psutil.Process] = field(default_factory=list, repr=False)
    stragglers: list[str] = field(default_factory=list)
    """Processes of a dead driver's cluster that had to be killed by hand."""

    @property
    def kills(self) -> int:
        """All of them."""
        return self.drivers + self.workers


def kill_driver(driver: subprocess.Popen[bytes], toll: Toll, raylet_first: bool = False) -> None:
    """Kill a driver; its cluster dies of that, most of it within seconds, which `bury` checks.

    raylet_first: and before it the raylet, as the loss of a node does; else it kills its workers when it goes.
    """
    below = descendants(driver.pid)
    for process in below if raylet_first else ():
        if process.name() == "raylet":
            kill(process)
    driver.kill()
    driver.wait()
    toll.drivers += 1
    for process in below:
        if title(process) in _AGENTS:
            kill(process)  # they would idle for a minute before they notice
        else:
            toll.orphans.append(process)


def bury(toll: Toll) -> None:
    """Wait until the clusters of dead drivers are gone; what stays is killed and noted.

    Measured over 25 kills: a worker that was being started gives its dead cluster up after 25 s (4 times), an agent
    that had no title yet after 70 s (once); all ended by themselves.
    """
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: not alive(toll.orphans), 90, "clusters to die")
    for process in alive(toll.orphans):
        toll.stragglers.append(title(process))
        kill(process)
    toll.orphans.clear()


def harry(
    work: Work,
    rng: random.Random,
    total: int,
    drivers: int,
    killed: int,
    *arguments: str,
    toll: Toll | None = None,
    seconds: float = 240,
) -> Toll:
    """Run the recipe to its end, killing the driver and workers that often at random moments on the way.

    total: the commits of an uninterrupted run, which spread the moments. toll: is counted up.
    """
    toll = toll or Toll()
    kinds = ["driver"] * drivers + ["worker"] * killed
    rng.shuffle(kinds)
    moments = iter(zip(sorted(rng.randrange(1, total - 2) for _ in kinds), kinds, strict=True))
    deadline = time.monotonic() + seconds
    driver = work.start(*arguments)
    try:
        moment = next(moments, None)
        since, stage = work.progress(), rng.choice(_BEGINNINGS)
        while driver.poll() is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {toll} the run is not done: {work.log()[-2000:]}")
            progress = work.progress()
            ready = moment is not None and progress >= moment[0]
            if ready and moment is not None and moment[1] == "driver":
                # Of two kills close together the second finds a driver that only begins.
                if progress > since or any(stage in title(p) for p in descendants(driver.pid)):
                    kill_driver(driver, toll)
                    driver = work.start(*arguments)
                    since, stage, moment = progress, rng.choice(_BEGINNINGS), next(moments, None)
            elif ready and progress > since:
                # Without progress in between, a sample would be found guilty of three deaths that it saw by chance.
                found = workers(driver.pid)
                if found:
                    kill(rng.choice(found))
                    toll.workers += 1
                    since, moment = progress, next(moments, None)
            time.sleep(_POLL)
        assert driver.returncode == 0, (work.folder / "output.txt").read_text()[-3000:]
    finally:
        if driver.poll() is None:
            kill_driver(driver, toll)
        bury(toll)
    return toll


_AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
_BEGINNINGS = ("gcs_server", "raylet", WORKER, BUSY)
"""Processes that come up one after the other when a driver starts."""


@contextlib.contextmanager
def running(work: Work, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A run in the background, killed at the end if it still goes on."""
    driver = work.start(*arguments)
    try:
        yield driver
    finally:
        if driver.poll() is None:
            toll = Toll()
            kill_driver(driver, toll)
            bury(toll)
