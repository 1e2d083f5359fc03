"""A cluster of nodes that loses one in the middle of each kind of work, and makes of it what a quiet machine makes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from three_nodes import Cluster, three_nodes
from tiny_models import write_random_checkpoint

from dexter_model.corpora import discover
from dexter_model.corpora.roots import CorpusRoots
from dexter_model.dataset.store import open_version
from dexter_model.training.checkpoint import load_checkpoint
from tasks.build import build_dataset
from tasks.render import RenderSettings, render_split

pytestmark = [pytest.mark.cluster, pytest.mark.corpora]
DEXTER = (sys.executable, "-m", "flows.cli")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with three_nodes(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory, corpora_root: Path) -> str:
    """A data set that this process built."""
    url = str(tmp_path_factory.mktemp("calm") / "dataset")
    build_dataset(discover("VIENNA422", CorpusRoots(datasets_root=str(corpora_root))), url, workers=0)
    return url


def start(cluster: Cluster, *command: str, **environment: str) -> subprocess.Popen[str]:
    """A driver on the head."""
    pipe = subprocess.PIPE
    environment = {**cluster.environment, **environment}
    return subprocess.Popen(cluster.command(*command), env=environment, stdout=pipe, stderr=pipe, text=True)


def finish(driver: subprocess.Popen[str]) -> tuple[str, str]:
    """What a driver that succeeds says, on stdout and on stderr."""
    out, err = driver.communicate()
    assert driver.returncode == 0, out + err
    return out, err


def test_jobs_are_told_what_the_driver_knows_and_logs_are_not(cluster: Cluster) -> None:
    code = """
import os
from tasks.cluster import fan_out

def make():
    class Worker:
        def run(self, job):
            return os.environ.get(job)
    return Worker()

names = ["DEXTER_MARK", "AWS_ENDPOINT_URL", "AWS_SECRET_ACCESS_KEY", "AWS_ROLE_ARN", "PREFECT_MARK"]
told = dict(fan_out(make, names))
print(*(told[index] for index in range(5)))
"""
    known = {"DEXTER_MARK": "mark", "AWS_ENDPOINT_URL": "http://s3", "AWS_SECRET_ACCESS_KEY": "not-to-be-logged"}
    machine = {"AWS_ROLE_ARN": "of-the-head", "PREFECT_MARK": "of-the-head"}
    out, _ = finish(start(cluster, sys.executable, "-c", code, **known, **machine))
    assert out == "mark http://s3 not-to-be-logged None None\n"
    for log in Path("/tmp/ray/session_latest/logs").rglob("*"):
        assert not log.is_file() or b"not-to-be-logged" not in log.read_bytes()


def test_a_build_that_loses_a_node(cluster: Cluster, calm: str, tmp_path: Path) -> None:
    """No piece is lost, none is quarantined, and the version is that of an undisturbed build in one process."""
    url = str(tmp_path / "dataset")
    build = start(cluster, *DEXTER, "dataset", "build", "--corpus", "VIENNA422", "--store", url, "--workers", "3")
    node = cluster.kill_at_work("Actor.run")
    out, err = finish(build)
    assert "raylet" not in out
    assert "1 lost with a node" in err
    assert open_version(url).digest == open_version(calm).digest
    assert open_version(url).quarantine.is_empty()
    cluster.wait_until_missed(node)
    cluster.add(1)


def test_a_training_that_loses_a_node(cluster: Cluster, calm: str, tmp_path: Path) -> None:
    """Two workers over gloo go on from a checkpoint, and end with the weights of two that nobody disturbed."""
    settings = "denoiser.channels=8 denoiser.layers=2 denoiser.window=32 training.batch_size=4 training.steps=100"
    settings += " training.log_every=10 training.checkpoint_every=10 training.validate_every=50"
    options = [part for setting in settings.split() for part in ("-s", setting)]
    command = [*DEXTER, "train", "--store", calm, "--workers", "2", *options, "--out"]
    finish(start(cluster, *command, str(tmp_path / "whole")))
    training = start(cluster, *command, str(tmp_path / "cut"))
    while not list(tmp_path.glob("cut/checkpoints/step_*")):
        assert training.poll() is None, training.communicate()
    node = cluster.kill_at_work("RayTrainWorker")
    _, err = finish(training)
    assert "training goes on from its last checkpoint" in err
    ours, theirs = load_checkpoint(tmp_path / "cut"), load_checkpoint(tmp_path / "whole")
    assert ours.meta["step"] == 100
    assert ours.meta["history"] == theirs.meta["history"]
    assert ours.digest == theirs.digest
    cluster.wait_until_missed(node)
    cluster.add(1)


def test_a_bulk_render_that_loses_a_node(cluster: Cluster, calm: str, tmp_path: Path) -> None:
    """Every MIDI and codec file has the bytes that one process writes."""
    checkpoint = str(write_random_checkpoint(tmp_path / "model"))
    chosen = {"checkpoint": checkpoint, "steps": 20, "samples": 6}
    render_split(calm, "train", tmp_path / "calm", RenderSettings(**chosen, workers=0))
    options = [part for name, value in chosen.items() for part in (f"--{name}", str(value))]
    out = str(tmp_path / "renders")
    rendering = start(
        cluster, *DEXTER, "render", "--store", calm, "--split", "train", *options, "--out", out, "--workers", "3"
    )
    cluster.kill_at_work("Actor.run")
    _, err = finish(rendering)
    assert "1 lost with a node" in err
    assert contents(Path(out)) == contents(tmp_path / "calm")
    listed = json.loads(Path(out, "renders.json").read_text())
    assert listed["quarantined"] == []


def contents(folder: Path) -> dict[str, bytes]:
    """What a folder of renders holds, but for how it came about."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.suffix in (".mid", ".npz")
    }


def test_a_job_submitted_to_the_cluster(cluster: Cluster, calm: str, tmp_path: Path) -> None:
    """Ray tells a submitted driver where the cluster is; two nodes are enough for as many workers as are asked for."""
    url = str(tmp_path / "dataset")
    ray = str(Path(sys.executable).with_name("ray"))
    build = [*DEXTER, "dataset", "build", "--corpus", "VIENNA422", "--store", url, "--workers", "8"]
    told = json.dumps({"env_vars": {name: value for name, value in os.environ.items() if name.startswith("DEXTER_")}})
    submit = [ray, "job", "submit", "--address", cluster.dashboard, "--runtime-env-json", told, "--", *build]
    out, _ = finish(start(cluster, *submit))
    assert "succeeded" in out
    assert open_version(url).digest == open_version(calm).digest
