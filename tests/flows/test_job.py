"""The main job, embedded and as a run of a real Prefect server: the same artefacts either way."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prefect_api import Server

from dexter_model.dataset.store import open_version
from dexter_model.expression.data import resident_split
from dexter_model.expression.train_arrays import train_on_arrays
from dexter_model.training.checkpoint import load_checkpoint, step_folder
from flows.build import build
from flows.configuration import load
from flows.job import run
from flows.parameters import JobParameters

CONFIG = """
build: {corpora: [DEMO], workers: 1}
train:
  denoiser: {channels: 8, layers: 2, window: 100}
  training: {steps: 4, batch_size: 4, threads: 1, log_every: 2, validate_every: 2, validation_windows: 4}
render: {steps: 3}
"""


def run_job(folder: Path, url: str | None) -> dict[str, Any]:
    """Run ``dexter run`` in a process of its own; returns run.json."""
    folder.mkdir()
    (folder / "job.yaml").write_text(CONFIG)
    environment = {**os.environ, **({"PREFECT_API_URL": url} if url else {})}
    command = [sys.executable, "-m", "flows.cli", "run", "job.yaml", "--out", "out"]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.splitlines()[-1]).name == "report.html"
    assert "<html" in (folder / "out" / "report.html").read_text()
    return json.loads((folder / "out" / "run.json").read_text())


def test_the_job_renders_with_the_best_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is built and trained already is kept, so that neither Ray nor a synthesiser is needed here."""
    monkeypatch.setenv("PATH", "")
    (tmp_path / "job.yaml").write_text(CONFIG)
    none = [f"{stage}.workers=0" for stage in ("build", "render", "evaluate")]
    options = [*none, "build.perceptual=none", "train.training.checkpoint_every=2"]
    parameters = load(JobParameters, tmp_path / "job.yaml", options, {"out": str(tmp_path / "out")})
    data, config, model = build(parameters.build), parameters.train.config(), tmp_path / "out" / "model"
    opened = open_version(parameters.build.store)
    training, validation = (resident_split(opened, split, config) for split in ("train", "validation"))
    assert training is not None
    dataset = {"version": data.version, "digest": data.digest}
    train_on_arrays(training, validation, config, model, dataset=dataset)
    shutil.rmtree(model / "best")
    shutil.copytree(step_folder(model / "checkpoints", 2), model / "best")
    run(parameters)
    told = json.loads((tmp_path / "out" / "renders" / "renders.json").read_text())["checkpoint"]
    assert told["digest"] == load_checkpoint(model / "best").digest != load_checkpoint(model).digest
    assert f"checkpoint to render with: {model / 'best'}" in capsys.readouterr().err


@pytest.mark.cluster
def test_the_job_makes_the_same_artefacts_embedded_and_served(tmp_path: Path, prefect_server: Server) -> None:
    embedded = run_job(tmp_path / "embedded", None)
    began = datetime.now(UTC)
    served = run_job(tmp_path / "served", prefect_server.url)
    assert set(embedded["artefacts"]) == {"build", "train", "render", "evaluate"}
    assert (served["artefacts"], served["parameters"]) == (embedded["artefacts"], embedded["parameters"])
    runs, artifacts = prefect_server.since(began)
    assert {run["state_type"] for run in runs} == {"COMPLETED"}
    kinds = {run["name"].partition(" ")[0] for run in runs}
    assert (len(runs), kinds) == (6, {"main", "build", "train", "render", "evaluate", "report"})
    assert {"dataset", "model", "renders", "evaluation", "main-job", "report", "progress"} <= set(artifacts)
    assert "report.html" in artifacts["main-job"]
