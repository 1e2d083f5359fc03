"""Ray when there is work to spread, this process when there is not: one way to fan jobs out over warm workers.

A worker is an object with a ``run(job)`` method that holds what is expensive to make (imports, a model, a child
process). Starting Ray takes some ten seconds, so it happens at the first fan-out, once a process, for all stages.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import secrets
import signal
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from dexter_model.errors import InputError
from dexter_model.places import is_url
from tasks.actors import Actor, FanOut, WorkerDied

Job = TypeVar("Job", contravariant=True)
Result = TypeVar("Result", covariant=True)
AnyJob = TypeVar("AnyJob")
AnyResult = TypeVar("AnyResult")

# Each machine has its own of these, or none; whatever else is called so is a setting of the job.
_OF_THE_MACHINE = (
    *("AWS_ROLE_", "AWS_WEB_IDENTITY_", "AWS_CONTAINER_", "AWS_EC2_METADATA_"),
    *("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CA_BUNDLE"),
    *("DEXTER_CACHE_DIR", "DEXTER_NOTIFY_URL"),
)

STARTS = 3  # of a cluster of this machine
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")  # of this container: microseconds of CPU in so many, or max

log = logging.getLogger(__name__)


class Worker(Protocol[Job, Result]):
    """What does the jobs; a worker with a ``close`` method has it called when it did its last one in this process."""

    def run(self, job: Job) -> Result:
        """Do one job. Bad input is for the result to tell: an exception ends the whole fan-out."""


def ray_session(workers: int = 0) -> Any:
    """The ``ray`` module, connected: to the cluster at ``RAY_ADDRESS``, else to one on this machine, started now.

    A cluster that is joined wants its token (``RAY_AUTH_MODE``, ``RAY_AUTH_TOKEN`` or ``RAY_AUTH_TOKEN_PATH``); Ray's
    own job submission sets all of them. One that is started here listens on every address of the machine, whatever it
    is told: it gets a token that nobody else knows.

    Args:
        workers: CPUs a cluster of this machine is started with, if those are more than it has.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = os.environ.get("RAY_ADDRESS", "local")
    if address == "local" and "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))  # else Ray writes one into the home folder
    import ray

    if ray.is_initialized():
        return ray
    if callable(signal.getsignal(signal.SIGTERM)):
        # Ray's own handler ends the process; whoever has one here, such as a Prefect run to be cancelled, knows better.
        ray._private.utils.set_sigterm_handler = lambda _handler: None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "configure_logging": True}
    if address == "local":
        _start_here(ray, num_cpus=max(workers, cpus()), **quiet)
    else:
        ray.init(address=address, **quiet)
    # Ray prints what its nodes complain of on stdout, among what a command says.
    ray._private.worker.print_to_stdstream = lambda data, **_: log.info("ray: %s", " ".join(data["lines"]))
    return ray


def _start_here(ray: Any, **options: Any) -> None:
    """Start a cluster; Ray gives itself half a minute for that, which a busy machine may miss a few times."""
    for attempt in range(STARTS):
        try:
            ray.init(address="local", include_dashboard=False, **options)
            return
        except Exception as error:  # Ray has no class of its own for it
            if attempt == STARTS - 1 or "timed out during startup" not in str(error):
                raise
            log.warning("Ray did not start in time and is started again")
            ray.shutdown()


def is_ours() -> bool:
    """Whether Ray's cluster is one that this process started, for itself."""
    return os.environ.get("RAY_ADDRESS", "local") == "local"


def settings_of_jobs() -> dict[str, str]:
    """Environment variables that work elsewhere needs too: DExter's own, and which S3 server, as whom."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("DEXTER_", "AWS_")) and not name.startswith(_OF_THE_MACHINE)
    }


def cpus() -> int:
    """CPUs this process may use; a container's share of them is rounded up."""
    allowed = len(os.sched_getaffinity(0))
    quota, _, period = CPU_QUOTA.read_text().partition(" ") if CPU_QUOTA.is_file() else ("max", "", "")
    return allowed if quota == "max" else min(allowed, math.ceil(int(quota) / int(period)))


@functools.cache
def tell_to_share(*places: str) -> None:
    """Warn, once, of folders that work on several machines reads or writes: they have to be there on each."""
    folders = [place for place in places if not is_url(place)]
    if is_ours() or not folders or sum(node["Alive"] for node in ray_session().nodes()) < 2:
        return
    log.warning("all nodes of the cluster must share %s; an s3:// place is one for all", " and ".join(folders))


def fan_out(
    make_worker: Callable[[], Worker[AnyJob, AnyResult]],
    jobs: Sequence[AnyJob],
    *,
    workers: int | None = None,
    gpu: float | None = 0,
    shared: Sequence[str] = (),
) -> Iterator[tuple[int, AnyResult | WorkerDied]]:
    """Do jobs over workers, each worker one job at a time; no more are in flight than there are workers.

    A job whose worker dies (killed, out of memory, its node lost) runs again in another one.

    Args:
        make_worker: makes a worker, where it will work; sent to Ray actors.
        jobs: what ``run`` takes; sent to Ray actors.
        workers: Ray actors; 0 does the jobs in this process without Ray, None takes as many as the cluster has CPUs (or
            shares of GPUs) for, now or later: more are always asked for, which lets an autoscaler add nodes.
        gpu: share of a GPU that each actor takes; None a whole one if the cluster has GPUs at this moment.
        shared: places that workers open.

    Yields:
        Index of the job and its result, in the order they finish.

    Raises:
        InputError: workers die before they have done anything (``workers_die``), or this machine has no GPU
            (``no_gpu``). What a job raises is raised; of trouble with storage (``errors.storage_trouble``) the third.
    """
    if not jobs:
        return
    if workers == 0:
        yield from _in_this_process(make_worker, jobs)
        return
    wanted = min(workers or cpus(), len(jobs))
    ray = ray_session(wanted)
    tell_to_share(*shared)
    resources = ray.cluster_resources()
    gpu = min(1.0, resources.get("GPU", 0.0)) if gpu is None else gpu
    cpu = 1.0
    if is_ours():
        if gpu > resources.get("GPU", 0.0):
            raise InputError("gpu_share", "this machine has no GPU", "Leave it out, or set RAY_ADDRESS", "no_gpu")
        # Our own machine shares its CPUs out; elsewhere an actor waits for a whole one.
        workers, cpu = wanted, min(1.0, resources["CPU"] / wanted)
    actor = ray.remote(num_cpus=cpu, num_gpus=gpu, max_restarts=0, max_task_retries=-1)(Actor)
    start = partial(actor.remote, make_worker)
    yield from FanOut(ray, start, settings_of_jobs(), {"CPU": cpu, "GPU": gpu}, jobs, workers).results()


def _in_this_process(
    make_worker: Callable[[], Worker[AnyJob, AnyResult]], jobs: Sequence[AnyJob]
) -> Iterator[tuple[int, AnyResult]]:
    worker = make_worker()
    try:
        for index, job in enumerate(jobs):
            yield index, worker.run(job)
    finally:
        getattr(worker, "close", lambda: None)()
