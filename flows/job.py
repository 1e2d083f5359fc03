"""Flow: the main job, corpora in, evaluated performances and one report out."""

from __future__ import annotations

from dexter_model.errors import RegressionError
from flows.build import build
from flows.parameters import JobParameters, ReportParameters
from flows.render import render
from flows.report import report
from flows.stages import evaluated, run_stage, table_of_stages, tell, write_run
from flows.train import train
from tasks.orchestration import DAY, SERVED, flow, only_writer, publish_markdown
from tasks.progress import say
from tasks.runs import recorded, stages_done


@flow(name="main-job", flow_run_name="main job {parameters.out}", timeout_seconds=30 * DAY)
@recorded("main-job", lambda parameters: parameters.out)
def run(parameters: JobParameters) -> str:
    """Build, train, render, evaluate, report; every stage goes on from what is there.

    Returns:
        The report. ``run.json`` beside it holds the digest of every artefact, and no times: equal runs, equal files.

    Raises:
        RegressionError: the renders are worse than the baseline; the report and ``run.json`` are written.
    """
    with only_writer(parameters.out):
        page, worse = _job(parameters)
    if not SERVED:
        say("To watch it in Prefect: `prefect server start`, and again with PREFECT_API_URL=http://127.0.0.1:4200/api")
    if worse is not None:
        raise worse
    return page


def _job(parameters: JobParameters) -> tuple[str, RegressionError | None]:
    data = run_stage("build", lambda: build(parameters.build))
    model = run_stage("train", lambda: train(parameters.train))
    tell(seed=parameters.train.training.seed)
    checkpoint = parameters.render.checkpoint or model.best or model.checkpoint
    say(f"checkpoint to render with: {checkpoint}")
    run_stage("render", lambda: render(parameters.render.model_copy(update={"checkpoint": checkpoint})))
    tell(seed=parameters.render.seed)
    _, worse = run_stage("evaluate", lambda: evaluated(parameters.evaluate))
    told = ReportParameters(
        out=parameters.out,
        store=parameters.build.store,
        version=data.version,
        checkpoint=checkpoint,
        renders=parameters.evaluate.renders,
        evaluation=parameters.evaluate.out,
        sweep=None,
    )
    page = run_stage("report", lambda: report(told, stages_done()))
    write_run(parameters.out, parameters)
    publish_markdown("main-job", f"Report: `{page}`\n\n{table_of_stages()}", "The main job")
    return page, worse
