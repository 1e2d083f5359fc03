"""Flow: the main job, corpora in, evaluated performances and one report out."""

from __future__ import annotations

from flows.build import build
from flows.parameters import JobParameters, ReportParameters
from flows.render import render
from flows.report import report
from flows.stages import Stages, evaluated
from flows.train import train
from tasks.orchestration import SERVED, flow, publish_markdown
from tasks.progress import say
from tasks.runs import recorded


@flow(name="main-job", flow_run_name="main job {parameters.out}")
@recorded("main-job", lambda parameters: parameters.out)
def run(parameters: JobParameters) -> str:
    """Build, train, render, evaluate, report; every stage goes on from what is there.

    Returns:
        The report. ``run.json`` beside it holds the digest of every artefact, and no times: equal runs, equal files.

    Raises:
        RegressionError: the renders are worse than the baseline; the report and ``run.json`` are written.
    """
    stages = Stages()
    data = stages.run("build", lambda: build(parameters.build))
    model = stages.run("train", lambda: train(parameters.train))
    stages.tell(seed=parameters.train.training.seed)
    checkpoint = parameters.render.checkpoint or model.best or model.checkpoint
    say(f"checkpoint to render with: {checkpoint}")
    stages.run("render", lambda: render(parameters.render.model_copy(update={"checkpoint": checkpoint})))
    stages.tell(seed=parameters.render.seed)
    _, worse = stages.run("evaluate", lambda: evaluated(parameters.evaluate))
    told = ReportParameters(
        out=parameters.out,
        store=parameters.build.store,
        version=data.version,
        checkpoint=checkpoint,
        renders=parameters.evaluate.renders,
        evaluation=parameters.evaluate.out,
        sweep=None,
    )
    page = stages.run("report", lambda: report(told, list(stages.rows)))
    stages.record(parameters.out, parameters)
    publish_markdown("main-job", f"Report: `{page}`\n\n{stages.as_markdown()}", "The main job")
    if not SERVED:
        say("To watch it in Prefect: `prefect server start`, and again with PREFECT_API_URL=http://127.0.0.1:4200/api")
    if worse is not None:
        raise worse
    return page
