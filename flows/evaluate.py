"""Flow: renders in, measures against every human performance out, and a verdict where there is a baseline."""

from __future__ import annotations

from typing import Any

from dexter_model.dataset.store import open_version
from dexter_model.errors import RegressionError
from dexter_model.metrics import generated_regression as generated
from dexter_model.metrics.regression import headline, told
from dexter_model.places import absolute, name_of
from flows.facts import of_evaluation
from flows.parameters import EvaluateParameters
from tasks.evaluate import EvaluationResult
from tasks.evaluate import evaluate as evaluate_renders
from tasks.judge import JudgeResult, by_name, judge
from tasks.orchestration import HOUR, flow, publish_link, publish_markdown, tag_run
from tasks.progress import say
from tasks.report import ReportInputs, write_report
from tasks.runs import recorded


@flow(name="evaluate", flow_run_name="evaluate {parameters.out}", timeout_seconds=12 * HOUR)
@recorded("evaluate", lambda parameters: parameters.out, of_evaluation)
def evaluate(parameters: EvaluateParameters, page: bool = True) -> EvaluationResult | JudgeResult:
    """Measure renders against every human performance of their pieces, beside the references.

    Beside a verdict goes a ``page``, unless a job writes one of its own. On a data set of performances without scores,
    folders of generated music are held against its held-out music, which always has a page.

    Raises:
        RegressionError: they are worse than the baseline; everything was written and published before.
    """
    tag_run(store=parameters.store)
    if open_version(parameters.store, parameters.version).holds_recordings:
        return _generated(parameters, page)
    result = evaluate_renders(
        parameters.store,
        parameters.renders,
        parameters.out,
        parameters.version,
        external=parameters.external,
        baseline=parameters.baseline,
        tolerance=parameters.tolerance,
        workers=parameters.workers,
    )
    summary = (
        f"{result.renders} renders of {result.pieces} pieces measured, {len(result.refused)} refused, in {result.out}"
    )
    for row in result.refused:
        say(f"refused ({row['code']}) {row['system']} {row['name']}: {row['reason']}")
    say(summary)
    publish_markdown("evaluation", summary, "Evaluation")
    if result.regression:
        _judge(headline(result.regression), told(result.regression), _page(parameters) if page else None, result)
    return result


def _generated(parameters: EvaluateParameters, page: bool) -> JudgeResult:
    result = judge(
        parameters.store,
        by_name(parameters.renders, parameters.external),
        parameters.out,
        parameters.version,
        baseline=parameters.baseline,
        tolerance=parameters.generated_tolerance,
        workers=parameters.workers,
    )
    for row in result.refused:
        say(f"refused ({row['code']}) {row['system']} {row['name']}: {row['reason']}")
    summary = f"{result.pieces} generated pieces judged, {len(result.refused)} refused, in {result.out}"
    say(summary)
    publish_markdown("evaluation", summary, "Evaluation")
    written = _page(parameters) if page else None
    if result.regression:
        _judge(generated.headline(result.regression), generated.told(result.regression), written, result)
    elif written:
        _publish(written)
    return result


def _page(parameters: EvaluateParameters) -> str:
    """A report beside the evaluation."""
    inputs = ReportInputs(
        store_url=parameters.store,
        version=parameters.version,
        renders=parameters.renders,
        external=parameters.external,
        evaluation=parameters.out,
    )
    return absolute(write_report(inputs, parameters.out))


def _judge(verdict: str, lines: list[str], page: str | None, result: Any) -> None:
    """Tell and publish the verdict; raise if it is bad, which its lines tell."""
    publish_markdown(
        "regression", "\n".join([f"**{verdict}**", "", *(f"- {line}" for line in lines)]), "Beside the baseline"
    )
    say(verdict)
    if page is not None:
        _publish(page)
    if lines:
        raise RegressionError(lines, result)


def _publish(page: str) -> None:
    publish_link("report", page, name_of(page))
    say(f"report: {page}")
