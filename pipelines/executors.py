"""Where jobs run: in this process, or on Ray tasks and pools of model workers.

An executor takes jobs while it has room and hands back outcomes. It decides nothing about the work itself.
"""

from __future__ import annotations

import contextlib
import os
import traceback
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from pipelines.unit import Done, Job, read_crumb, run_job
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
    fruitless: int = 0
    """Deaths that left no trace of a row."""


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


class _ModelWorker:
    """A Ray actor that holds one loaded model."""

    def __init__(self, root: str, model: Model) -> None:
        self._root = root
        self._model = model.load()

    def run(self, job: Job) -> Done | Failure:
        return execute(self._root, job, self._model)


@dataclass
class _Worker:
    actor: Any
    jobs: int = 0


class RayExecutor:
    """Jobs on Ray: light ones as tasks, model ones on pools of actors that grow while there is work for them.

    address: `local` starts an embedded cluster; anything else joins that one. workers: CPUs of the embedded cluster.
    """

    _QUEUE = 2  # jobs queued on a worker, so that it never waits for the driver

    def __init__(self, store: Store, models: Mapping[str, Model], address: str, workers: int | None) -> None:
        import ray

        import omnicurate

        self._ray = ray
        self._store = store
        self._models = models
        self._crumbs = f"{store.root if store.local else os.path.expanduser('~/.cache/omnicurate')}/crumbs"
        embedded = address == "local"
        self._owns = not ray.is_initialized()
        if self._owns:
            os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            limits = {"num_cpus": workers or os.cpu_count(), "object_store_memory": 128 << 20} if embedded else {}
            ray.init(
                address=address,
                include_dashboard=False if embedded else None,
                log_to_driver=False,
                logging_level="error",
                runtime_env=omnicurate.runtime_env(),
                **limits,
            )
        self._cpus = float(ray.cluster_resources().get("CPU", 1))
        self._gpus = float(ray.cluster_resources().get("GPU", 0))
        self._task = ray.remote(execute)
        self._pools: dict[str, list[_Worker]] = {}
        self._flying: dict[Any, tuple[Ticket, _Worker | None]] = {}
        self._tasks = 0

    def room(self, ticket: Ticket) -> bool:
        if ticket.model is None:
            return self._tasks < self._QUEUE * max(1, int(self._cpus))
        pool = self._pools.setdefault(ticket.model, [])
        return any(worker.jobs < self._QUEUE for worker in pool) or self._may_grow(ticket.model)

    def start(self, ticket: Ticket) -> None:
        ticket.job = replace(ticket.job, crumb=f"{self._crumbs}/{uuid.uuid4().hex}")
        if ticket.model is None:
            needs = ticket.needs
            options = {"num_cpus": needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory or None, "max_retries": 0}
            ref = self._task.options(**options).remote(self._store.root, ticket.job)
            self._tasks += 1
            self._flying[ref] = (ticket, None)
            return
        pool = self._pools[ticket.model]
        if all(worker.jobs for worker in pool) and self._may_grow(ticket.model):
            pool.append(self._spawn(ticket.model))
        worker = min(pool, key=lambda w: w.jobs)
        worker.jobs += 1
        self._flying[worker.actor.run.remote(ticket.job)] = (ticket, worker)

    def _may_grow(self, name: str) -> bool:
        """A pool's first worker always fits; more come while a CPU (and the GPUs) are left for the rest."""
        if not self._pools.get(name):
            return True
        used = [self._models[other].needs for other, pool in self._pools.items() for _ in pool]
        needs = self._models[name].needs
        light = 1 if self._tasks else 0
        fits_cpu = sum(u.cpus for u in used) + needs.cpus + light <= self._cpus
        return fits_cpu and sum(u.gpus for u in used) + needs.gpus <= max(self._gpus, needs.gpus * bool(not used))

    def _spawn(self, name: str) -> _Worker:
        model = self._models[name]
        needs = model.needs
        crowded = sum(m.needs.cpus for m in self._models.values()) + 1 > self._cpus
        options = {"num_cpus": 0 if crowded else needs.cpus, "num_gpus": needs.gpus, "memory": needs.memory or None}
        actor = self._ray.remote(_ModelWorker).options(max_restarts=0, max_task_retries=0, **options)
        return _Worker(actor.remote(self._store.root, model))

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
        if worker is None:
            self._tasks -= 1
        else:
            worker.jobs -= 1
        try:
            outcome: Outcome = self._ray.get(ref)
        except (exceptions.NodeDiedError, exceptions.ObjectLostError) as error:
            outcome = Death((), False, type(error).__name__)
        except (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.RayActorError) as error:
            assert ticket.job.crumb is not None
            outcome = Death(tuple(read_crumb(ticket.job.crumb)), True, str(error).split("\n")[0])
        except exceptions.RayTaskError as error:
            outcome = Failure(RunError("a worker could not start its job", str(error)))
        if isinstance(outcome, Death) and worker is not None:
            for pool in self._pools.values():
                if worker in pool:
                    pool.remove(worker)
        return ticket, outcome

    def close(self) -> None:
        for ref in self._flying:
            with contextlib.suppress(Exception):
                self._ray.cancel(ref, force=True)
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
