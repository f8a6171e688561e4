"""Where jobs run: in this process, or on pools of Ray workers.

An executor takes jobs while it has room and hands back outcomes. It decides nothing about the work itself.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import signal
import traceback
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeAlias

import omnicurate
from pipelines.work import run_job
from pipelines.work.bench import Done, Job, read_crumb
from schemas.errors import OmnicurateError, RunError
from schemas.store import Store
from stages.base import Model, Needs


@dataclass(frozen=True)
class Failure:
    """A job that ended in an exception which is no sample's fault: the run must stop."""

    error: OmnicurateError


@dataclass(frozen=True)
class Death:
    """A worker died in a job. `rows`: what it had in hand; `counts`: whether they are suspects (a node lost is not)."""

    rows: tuple[int, ...]
    counts: bool
    text: str


@dataclass
class Ticket:
    """A job on its way: which pool does it, and who is told."""

    job: Job
    needs: Needs
    model: str | None
    owner: Any = None
    deaths: dict[int, int] = field(default_factory=dict)
    """Row -> how many workers died while they held it alone."""
    together: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Rows of a batch -> how many workers died while they held them."""
    fruitless: int = 0
    """Deaths in the job that left no trace of a row."""
    losses: int = 0
    """Deaths before the job began, and losses of nodes."""


Outcome = Done | Failure | Death


class Executor(Protocol):
    """What the engine needs of the place where jobs run."""

    def room(self, ticket: Ticket) -> bool:
        """Whether a job may be started now."""

    def start(self, ticket: Ticket) -> None:
        """Start a job."""

    def wait(self, seconds: float) -> list[tuple[Ticket, Outcome]]:
        """Outcomes that have arrived, waiting at most that long for the first."""

    def close(self) -> None:
        """Release workers."""


def execute(root: str, job: Job, model: Any = None) -> Done | Failure:
    """Do a job; what goes wrong comes back as a value, so that it survives the trip between processes."""
    try:
        return run_job(Store(root), job, model)
    except OmnicurateError as error:
        return Failure(error)
    except OSError as error:
        what = f"{error.strerror or error}" + (f": {error.filename}" if error.filename else "")
        return Failure(RunError(f"a worker could not read or write: {what}", "mend it and run again: it goes on"))
    except Exception as error:
        where = "".join(traceback.format_exception(error))
        what = ", ".join(step.use for step in job.steps) or job.work
        return Failure(RunError(f"{what} broke: {type(error).__name__}: {error}", where))


class LocalExecutor:
    """Jobs one after the other in this process. A sample that kills its worker ends the run here."""

    def __init__(self, store: Store, models: Mapping[str, Model]) -> None:
        self._root = store.root
        self._models = models
        self._loaded: dict[str, Any] = {}
        self._next: Ticket | None = None

    def room(self, ticket: Ticket) -> bool:
        return self._next is None

    def start(self, ticket: Ticket) -> None:
        self._next = ticket

    def wait(self, seconds: float) -> list[tuple[Ticket, Outcome]]:
        ticket, self._next = self._next, None
        if ticket is None:
            return []
        name = ticket.model
        if name is not None and name not in self._loaded:
            self._loaded[name] = self._models[name].load()
        return [(ticket, execute(self._root, ticket.job, self._loaded.get(name) if name else None))]

    def close(self) -> None:
        self._loaded.clear()


@dataclass(eq=False)
class _Worker:
    actor: Any
    needs: Needs
    jobs: int = 0


_Pool: TypeAlias = tuple[str | None, Needs]


class RayExecutor:
    """Jobs on Ray: pools of actors, one for each model and one for light work, that grow while there is work.

    Light work runs on actors too, not on Ray tasks: they keep their imports warm, and with Ray 2.60 runs that had
    tasks beside actors were seen to hang (the cause was not established).
    address: `local` starts an embedded cluster; anything else joins that one. workers: CPUs of the embedded cluster.
    """

    _QUEUE = 2  # jobs on a worker, the second waiting: it never waits for the driver

    def __init__(self, store: Store, models: Mapping[str, Model], address: str, workers: int | None) -> None:
        self._ray: Any = None  # started with the first job: a run that finds everything done needs none
        self._owns = False
        self._store = store
        self._models = models
        self._crumbs = f"{store.root if store.local else os.path.expanduser('~/.cache/omnicurate')}/.crumbs"
        self._address = address
        self._workers = workers or os.cpu_count() or 1
        self._embedded = address == "local"
        self._cpus = self._gpus = 0.0
        self._pools: dict[_Pool, list[_Worker]] = {}
        self._flying: dict[Any, tuple[Ticket, _Worker]] = {}

    def _connect(self) -> None:
        import ray

        self._owns = not ray.is_initialized()
        if self._owns:
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            limits: dict[str, Any] = {}
            if self._embedded:
                limits = {"num_cpus": self._workers, "object_store_memory": 128 << 20, "include_dashboard": False}
            before = signal.getsignal(signal.SIGTERM)
            ray.init(
                address=self._address,
                log_to_driver=False,
                logging_level=logging.ERROR,
                **limits,
            )
            signal.signal(signal.SIGTERM, before)  # Ray's own would end a run that is cancelled without a word
        self._ray = ray
        resources: dict[str, float] = self._ray.cluster_resources()
        self._cpus, self._gpus = resources.get("CPU", 1.0), resources.get("GPU", 0.0)

    def room(self, ticket: Ticket) -> bool:
        if self._ray is None:
            self._connect()
        pool = self._pools.get((ticket.model, ticket.needs), [])
        return any(worker.jobs < self._QUEUE for worker in pool) or self._may_grow(ticket)

    def start(self, ticket: Ticket) -> None:
        ticket.job = replace(ticket.job, crumb=f"{self._crumbs}/{uuid.uuid4().hex}")
        pool = self._pools.setdefault((ticket.model, ticket.needs), [])
        if all(worker.jobs for worker in pool) and self._may_grow(ticket):
            pool.append(self._spawn(ticket))
        worker = min(pool, key=lambda w: w.jobs)
        worker.jobs += 1
        self._flying[worker.actor.run.remote(ticket.job)] = (ticket, worker)

    def _may_grow(self, ticket: Ticket) -> bool:
        """A pool's first worker always fits; more come while CPUs and GPUs are left.

        On a machine of our own only busy workers count. On a cluster an actor holds what it asked for, so light
        workers that idle make room for models.
        """
        pools = self._pools
        if not pools.get((ticket.model, ticket.needs)):
            return True
        others = [w for pool in pools.values() for w in pool if w.jobs or not self._embedded]
        gpus = sum(w.needs.gpus for w in others) + ticket.needs.gpus
        if gpus > self._gpus or sum(w.needs.cpus for w in others) + ticket.needs.cpus > self._cpus:
            return ticket.model is not None and not self._embedded and gpus <= self._gpus and self._retire_idle()
        return True

    def _retire_idle(self) -> bool:
        for (model, _), pool in self._pools.items():
            idle = [worker for worker in pool if not worker.jobs]
            if model is None and idle and len(pool) > 1:
                pool.remove(idle[0])
                self._ray.kill(idle[0].actor)
                return True
        return False

    def _spawn(self, ticket: Ticket) -> _Worker:
        needs = ticket.needs
        # On a machine of our own the few CPUs are shared; what runs at once is decided here.
        options = {
            "num_cpus": 0 if self._embedded else needs.cpus,
            "num_gpus": needs.gpus,
            "memory": needs.memory or None,
        }
        actor = self._ray.remote(omnicurate.RayWorker).options(max_restarts=0, max_task_retries=0, **options)
        model = pickle.dumps(self._models[ticket.model] if ticket.model is not None else None)
        return _Worker(actor.remote(omnicurate.code_digest(), os.getcwd(), self._store.root, model), needs)

    def wait(self, seconds: float) -> list[tuple[Ticket, Outcome]]:
        if not self._flying:
            return []
        refs = list(self._flying)
        ready, _ = self._ray.wait(refs, num_returns=1, timeout=seconds)
        if ready:
            more, _ = self._ray.wait(refs, num_returns=len(refs), timeout=0)
            ready = list(dict.fromkeys([*ready, *more]))
        return [self._collect(ref) for ref in ready]

    def _collect(self, ref: Any) -> tuple[Ticket, Outcome]:
        from ray import exceptions

        ticket, worker = self._flying.pop(ref)
        worker.jobs -= 1
        try:
            outcome: Outcome = self._ray.get(ref)
        except exceptions.RayActorError as error:
            outcome = self._death(ticket, worker, error)
        except (exceptions.NodeDiedError, exceptions.ObjectLostError, exceptions.OutOfMemoryError) as error:
            outcome = self._death(ticket, worker, error)
        except exceptions.RayTaskError as error:
            outcome = Failure(RunError("a worker could not start its job", str(error)))
        return ticket, outcome

    def _death(self, ticket: Ticket, worker: _Worker, error: Exception) -> Outcome:
        """A worker is gone. The job that it was doing left a crumb; the one that waited behind it did not begin."""
        for pool in self._pools.values():
            if worker in pool:
                pool.remove(worker)
        text = str(error).strip().split("\n")[0]
        if "creation task" in str(error) or (type(error).__name__ == "ActorDiedError" and "__init__" in str(error)):
            what = f"the model {ticket.model!r} could not be loaded" if ticket.model else "a worker could not start"
            return Failure(RunError(what, str(error)))
        assert ticket.job.crumb is not None
        began, rows = read_crumb(ticket.job.crumb)
        node_lost = "node" in text.lower() and "died" in text.lower()
        return Death(tuple(rows), began and not node_lost, text)

    def close(self) -> None:
        for worker in (w for pool in self._pools.values() for w in pool):
            self._ray.kill(worker.actor)
        if self._owns:
            self._ray.shutdown()


@contextlib.contextmanager
def executor_for(
    engine: str, store: Store, models: Mapping[str, Model], address: str = "local", workers: int | None = None
) -> Iterator[Executor]:
    """The executor of `--engine local` or `ray`, closed at the end."""
    executor: Executor = (
        LocalExecutor(store, models) if engine == "local" else RayExecutor(store, models, address, workers)
    )
    try:
        yield executor
    finally:
        executor.close()
