"""Flow: the main job, corpora in, evaluated performances and one report out."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dexter_model.digests import code_version, file_digest, json_digest, write_atomically
from dexter_model.errors import RegressionError
from flows.build import build
from flows.evaluate import evaluate
from flows.parameters import EvaluateParameters, JobParameters, ReportParameters
from flows.render import render
from flows.report import report
from flows.train import train
from tasks.evaluate import EvaluationResult
from tasks.orchestration import SERVED, flow, publish_markdown
from tasks.progress import say

RUN = "run.json"


@flow(name="main-job", flow_run_name="main job {parameters.out}")
def run(parameters: JobParameters) -> Path:
    """Build, train, render, evaluate, report; every stage goes on from what is there.

    Returns:
        The report. ``run.json`` beside it holds the digest of every artefact, and no times: equal runs, equal files.

    Raises:
        RegressionError: the renders are worse than the baseline; the report and ``run.json`` are written.
    """
    out, stages = Path(parameters.out), []

    def stage(name: str, work: Callable[[], Any]) -> Any:
        say(f"-- {name}")
        began = time.monotonic()
        result = work()
        stages.append({"name": name, "seconds": round(time.monotonic() - began, 1)})
        return result

    data = stage("build", lambda: build(parameters.build))
    stages[-1] |= {"version": data.version, "digest": data.digest}
    model = stage("train", lambda: train(parameters.train))
    stages[-1] |= {"digest": model.digest, "seed": parameters.train.training.seed}
    checkpoint = parameters.render.checkpoint or str(model.best or model.checkpoint)
    say(f"checkpoint to render with: {checkpoint}")
    renders = stage("render", lambda: render(parameters.render.model_copy(update={"checkpoint": checkpoint})))
    digest = json_digest([[row["name"], row["digest"], row["codec_digest"]] for row in renders.renders])
    stages[-1] |= {"digest": digest, "seed": parameters.render.seed}
    evaluation, worse = stage("evaluate", lambda: _evaluated(parameters.evaluate))
    stages[-1] |= {"digest": evaluation.digest}
    told = ReportParameters(
        out=parameters.out,
        store=parameters.build.store,
        version=data.version,
        checkpoint=checkpoint,
        renders=parameters.evaluate.renders,
        evaluation=parameters.evaluate.out,
        sweep=None,
    )
    page = stage("report", lambda: report(told, list(stages)))
    _record(out, parameters, stages)
    publish_markdown("main-job", as_markdown(stages, page), "The main job")
    if not SERVED:
        say("To watch it in Prefect: `prefect server start`, and again with PREFECT_API_URL=http://127.0.0.1:4200/api")
    if worse is not None:
        raise worse
    return page


def _evaluated(parameters: EvaluateParameters) -> tuple[EvaluationResult, RegressionError | None]:
    """The evaluation, and what is to be raised when its report is written."""
    try:
        return evaluate(parameters), None
    except RegressionError as error:
        return error.result, error


def _record(out: Path, parameters: JobParameters, stages: list[dict[str, Any]]) -> None:
    """Write what decides the artefacts, and their digests."""
    artefacts = {stage["name"]: stage["digest"] for stage in stages if "digest" in stage}
    record = {"code_version": code_version(), "parameters": parameters.model_dump(mode="json"), "artefacts": artefacts}
    write_atomically(out / RUN, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())


def as_markdown(stages: list[dict[str, Any]], report: Path) -> str:
    """The job as a table, for Prefect's artifact."""
    rows = [f"| {s['name']} | {s['seconds']:.1f} | `{str(s.get('digest', ''))[:12]}` |" for s in stages]
    table = "\n".join(["| stage | s | digest |", "|---|---|---|", *rows])
    return f"Report: `{report}` (sha-256 `{file_digest(report, verify=True)[:12]}`)\n\n{table}"
