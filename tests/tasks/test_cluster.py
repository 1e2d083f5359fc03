from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tasks.cluster import WorkerDied, fan_out


def worker_class() -> Any:
    """Made in a function, so that it is sent to actors by value: they do not import tests."""

    class Squarer:
        """A worker that tells who it is; job -1 kills it, always; a path kills it once."""

        def run(self, job: int | Path) -> tuple[int, int]:
            if isinstance(job, Path):
                if not job.exists():
                    job.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return os.getpid(), 7
            if job == -1:
                os.kill(os.getpid(), signal.SIGKILL)
            if job == -2:
                raise ValueError("a job that is wrong")
            return os.getpid(), job * job

    return Squarer


def test_in_this_process_without_ray() -> None:
    results = dict(fan_out(worker_class(), [1, 2, 3], workers=0))
    assert results == {0: (os.getpid(), 1), 1: (os.getpid(), 4), 2: (os.getpid(), 9)}
    with pytest.raises(ValueError, match="a job that is wrong"):
        list(fan_out(worker_class(), [-2], workers=0))


def test_without_jobs_nothing_starts() -> None:
    code = "import sys; from tasks.cluster import fan_out; print(list(fan_out(None, [])), 'ray' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["[]", "False"]


def test_a_worker_is_closed_after_its_last_job_even_when_nobody_waits_for_it() -> None:
    closed = []

    class Worker(worker_class()):  # type: ignore[misc]
        def close(self) -> None:
            closed.append(True)

    results = fan_out(Worker, [1, 2], workers=0)
    next(results)
    results.close()  # type: ignore[attr-defined]
    assert closed == [True]


@pytest.mark.cluster
def test_over_actors_a_lost_worker_costs_no_job_and_a_deadly_job_only_itself(tmp_path: Path) -> None:
    jobs: list[int | Path] = [1, 2, -1, tmp_path / "once", 3, 4, 5]
    results = dict(fan_out(worker_class(), jobs, workers=2))
    assert results.keys() == set(range(len(jobs)))
    assert isinstance(results.pop(2), WorkerDied)
    assert [results[i][1] for i in (0, 1, 3, 4, 5, 6)] == [1, 4, 7, 9, 16, 25]  # type: ignore[index]
    assert os.getpid() not in {result[0] for result in results.values()}  # type: ignore[index]
    with pytest.raises(ValueError, match="a job that is wrong"):
        list(fan_out(worker_class(), [-2], workers=2))


@pytest.mark.cluster
def test_workers_on_gpus_have_one_each() -> None:
    """On a cluster that says it has two GPUs, of eight workers asked for there are two, each with a GPU of its own."""
    code = """
import ray
from tasks.cluster import fan_out

def make():
    class Worker:
        def run(self, job):
            return tuple(ray.get_gpu_ids())
    return Worker()

ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
print(*sorted(set(dict(fan_out(make, range(40), workers=8, gpus=True)).values())))
print(*set(dict(fan_out(make, range(2), workers=1)).values()))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n") == ["(0,) (1,)", "()", ""]
