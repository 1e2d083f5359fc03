"""Ray when there is work to spread, this process when there is not: one way to fan jobs out over warm workers.

A worker is an object with a ``run(job)`` method that holds what is expensive to make (imports, a model, a child
process). Starting Ray takes some ten seconds, so it happens at the first fan-out, once a process, for all stages.
"""

from __future__ import annotations

import logging
import os
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

Job = TypeVar("Job", contravariant=True)
Result = TypeVar("Result", covariant=True)
AnyJob = TypeVar("AnyJob")
AnyResult = TypeVar("AnyResult")

DEATHS_ALLOWED = 3


class Worker(Protocol[Job, Result]):
    """What does the jobs; a worker with a ``close`` method has it called when it did its last one in this process."""

    def run(self, job: Job) -> Result:
        """Do one job. Bad input is for the result to tell: an exception ends the whole fan-out."""


@dataclass(frozen=True)
class WorkerDied:
    """In place of a result: the job's worker died ``DEATHS_ALLOWED`` times with nothing else in it."""

    reason: str


def ray_session(workers: int) -> Any:
    """The ``ray`` module, connected: to the cluster at ``RAY_ADDRESS``, else to one on this machine, started now.

    Args:
        workers: CPUs a cluster of this machine is started with, if those are more than it has.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local":
        os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # else Ray writes a token into the home folder
    import ray

    if ray.is_initialized():
        return ray
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address == "local":
        ray.init(address="local", num_cpus=max(workers, cpus()), include_dashboard=False, **quiet)
    else:
        settings = {name: value for name, value in os.environ.items() if name.startswith("DEXTER_")}
        ray.init(address=address, runtime_env={"env_vars": settings}, **quiet)
    return ray


def cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0))


def fan_out(
    make_worker: Callable[[], Worker[AnyJob, AnyResult]],
    jobs: Sequence[AnyJob],
    *,
    workers: int | None = None,
    gpus: bool = False,
) -> Iterator[tuple[int, AnyResult | WorkerDied]]:
    """Do jobs over workers, each worker one job at a time; no more are in flight than there are workers.

    A job whose worker dies (killed, out of memory, its node lost) runs again in a fresh one.

    Args:
        make_worker: makes a worker, where it will work; sent to Ray actors.
        jobs: what ``run`` takes; sent to Ray actors.
        workers: Ray actors; 0 does the jobs in this process without Ray, None takes as many as there are CPUs.
        gpus: whether workers use a GPU: on a cluster with GPUs each actor has one of them, and there are no more.

    Yields:
        Index of the job and its result, in the order they finish.
    """
    if not jobs:
        return
    if workers == 0:
        yield from _in_this_process(make_worker, jobs)
        return
    wanted = min(workers or cpus(), len(jobs))
    ray = ray_session(wanted)
    resources = ray.cluster_resources()
    available = int(resources.get("GPU", 0)) if gpus else 0
    wanted = min(wanted, available or wanted)
    # A cluster with fewer CPUs than workers were asked for shares them out; else actors would wait for ever.
    share = min(1.0, resources.get("CPU", 1.0) / wanted)
    actor_class = ray.remote(num_cpus=share, num_gpus=min(available, 1))(_Actor)
    yield from _over_actors(ray, lambda: actor_class.remote(make_worker), jobs, wanted)


def _in_this_process(
    make_worker: Callable[[], Worker[AnyJob, AnyResult]], jobs: Sequence[AnyJob]
) -> Iterator[tuple[int, AnyResult]]:
    worker = make_worker()
    try:
        for index, job in enumerate(jobs):
            yield index, worker.run(job)
    finally:
        getattr(worker, "close", lambda: None)()


class _Actor:
    """Holds a worker, made at its first job so that what making it raises is told like what a job raises."""

    def __init__(self, make_worker: Callable[[], Worker[Any, Any]]) -> None:
        self.make_worker = make_worker
        self.worker: Worker[Any, Any] | None = None

    def run(self, job: Any) -> Any:
        if self.worker is None:
            self.worker = self.make_worker()
        return self.worker.run(job)


def _over_actors(ray: Any, start: Callable[[], Any], jobs: Sequence[Any], workers: int) -> Iterator[tuple[int, Any]]:
    waiting = deque(range(len(jobs)))
    deaths: Counter[int] = Counter()
    idle: list[Any] = []
    running: dict[Any, tuple[int, Any]] = {}
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                index, actor = waiting.popleft(), idle.pop() if idle else start()
                running[actor.run.remote(jobs[index])] = index, actor
            ready, _ = ray.wait(list(running), num_returns=1)
            index, actor = running[ready[0]]
            outcome = _outcome(ray, ready[0])
            del running[ready[0]]
            if not isinstance(outcome, WorkerDied):
                idle.append(actor)
            else:
                ray.kill(actor)  # it may only have been out of reach
                deaths[index] += 1
                if deaths[index] < DEATHS_ALLOWED:
                    waiting.append(index)
                    continue
            yield index, outcome
    finally:
        for actor in [*idle, *(actor for _, actor in running.values())]:
            ray.kill(actor)


def _outcome(ray: Any, reference: Any) -> Any:
    """The result, or that the worker died; what the job raised is raised."""
    try:
        return ray.get(reference)
    except (ray.exceptions.RayActorError, ray.exceptions.OutOfMemoryError, ray.exceptions.ObjectLostError) as error:
        if getattr(error, "actor_init_failed", False):
            raise  # what makes workers could not even be sent: no fault of the job
        return WorkerDied(" ".join(str(error).split()))
    except ray.exceptions.RayTaskError as error:
        raise error.cause from None
