from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dexter_model.errors import InputError
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
def test_what_makes_workers_fails_once_and_for_all(tmp_path: Path) -> None:
    """What making a worker raises is raised; workers that die before their first job end in one clear error."""

    def raising() -> Any:
        raise ValueError("a worker that is wrong")

    def dying() -> Any:
        with (tmp_path / "starts").open("a") as starts:
            starts.write(".")
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(ValueError, match="a worker that is wrong"):
        list(fan_out(raising, [1, 2], workers=2))
    with pytest.raises(InputError, match="3 in a row died before their first job") as told:
        list(fan_out(dying, [1, 2], workers=1))
    assert told.value.code == "workers_die"
    assert (tmp_path / "starts").read_text() == "..."


@pytest.mark.cluster
def test_workers_on_gpus_share_them_as_told(tmp_path: Path) -> None:
    """On a cluster that says it has two GPUs, of eight workers there are as many as fit; the others hold up nothing."""
    code = """
import os, sys, time
from pathlib import Path
import ray
from tasks.cluster import fan_out

def make(folder, workers):
    class Worker:
        def run(self, job):
            (folder / str(os.getpid())).touch()
            while len(list(folder.iterdir())) < workers:
                time.sleep(0.05)
            return os.getpid(), *ray.get_gpu_ids()
    return Worker

ray.init(address="local", num_cpus=4, num_gpus=2, include_dashboard=False, log_to_driver=False)
for gpu, workers in ((1, 2), (0.5, 4), (0, 1)):
    folder = Path(sys.argv[1], str(gpu))
    folder.mkdir()
    who = set(dict(fan_out(make(folder, workers), range(20), workers=8 if gpu else 1, gpu=gpu)).values())
    print(len(who), *sorted(gpu for _, *gpus in who for gpu in gpus))
"""
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.split("\n") == ["2 0 1", "4 0 0 1 1", "1", ""]
