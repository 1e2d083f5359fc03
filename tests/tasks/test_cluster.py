from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dexter_model.errors import InputError
from tasks.actors import FanOut, Ready
from tasks.cluster import WorkerDied, cpus, fan_out, ray_session, tell_to_share


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
def test_trouble_with_storage_is_tried_again_and_raised_in_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The first worker cannot be made; a job n meets the trouble n times."""

    def tries(name: str) -> int:
        with (tmp_path / name).open("a+") as file:
            file.write(".")
            return file.tell()

    def make() -> Any:
        if tries("make") == 1:
            raise OSError(28, "No space left on device")

        class Reader:
            def run(self, job: int) -> int:
                number = tries(str(job))
                if number <= job:
                    raise InputError("s3://lab/piece", "cannot be read", "Try again", "s3_unreachable")
                return number

        return Reader()

    assert dict(fan_out(make, [0, 2, 1], workers=2)) == {0: 1, 1: 3, 2: 2}
    assert "jobs redone: 3 of 3 (3 storage failed)" in caplog.text
    with pytest.raises(InputError, match="s3://lab/piece") as told:
        list(fan_out(make, [3], workers=1))
    assert told.value.code == "s3_unreachable"
    assert (tmp_path / "3").read_text() == "..."


@pytest.mark.cluster
def test_a_job_goes_to_another_node_than_that_where_its_worker_died() -> None:
    fan = FanOut(ray_session(), lambda: None, {}, {"CPU": 1.0}, ["a", "b"], None)
    fan.failed_at[0], fan.idle = {"here"}, [Ready(None, "here")]
    assert fan._may_run(0, "here")  # as there are workers on no other
    fan.running = {"b": (1, Ready(None, "there"))}
    assert not fan._may_run(0, "here")
    assert fan._may_run(0, "there")
    assert fan._may_run(1, "here")


@pytest.mark.cluster
def test_a_cluster_without_room_is_told_and_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Somebody else has all its CPUs until we complain."""
    ray = ray_session()
    size = ray.cluster_resources()["CPU"]

    class Tenant:
        def came(self) -> None: ...

    tenant = ray.remote(num_cpus=size)(Tenant).remote()
    ray.get(tenant.came.remote())

    class Landlord(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            ray.kill(tenant)

    monkeypatch.setattr("tasks.actors.PATIENCE_SECONDS", 0.5)
    monkeypatch.setattr("tasks.actors.LOOK_SECONDS", 0.1)
    complaints, landlord = logging.getLogger("tasks.actors"), Landlord()
    complaints.addHandler(landlord)
    try:
        assert next(fan_out(worker_class(), [3], workers=1))[1][1] == 9  # type: ignore[index]
    finally:
        complaints.removeHandler(landlord)
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"no worker is ready after 0.5 s: each takes 1 CPU (the cluster has {size:g})"]


@pytest.mark.parametrize(("quota", "share"), [("max 100000\n", 1000), ("50000 100000\n", 1), ("150000 100000\n", 2)])
def test_a_container_has_its_share_of_the_cpus(
    quota: str, share: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr("tasks.cluster.CPU_QUOTA", tmp_path / "cpu.max")
    assert cpus() == min(share, len(os.sched_getaffinity(0)))


def test_folders_that_several_nodes_work_in_are_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def told(address: str, nodes: int, *places: str) -> str:
        monkeypatch.setenv("RAY_ADDRESS", address)
        joined = SimpleNamespace(nodes=lambda: [{"Alive": number < nodes} for number in range(3)])
        monkeypatch.setattr("tasks.cluster.ray_session", lambda: joined)
        caplog.clear()
        tell_to_share(*places)
        return caplog.text

    folder = str(tmp_path)
    assert told("local", 2, f"{folder}/ours") == ""
    assert told("head:6379", 1, f"{folder}/alone") == ""
    assert told("head:6379", 2, "s3://lab/dataset") == ""
    assert f"must share {folder};" in told("head:6379", 2, "s3://lab/dataset", folder)
    assert told("head:6379", 2, "s3://lab/dataset", folder) == ""


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
