"""Flow: renders in, measures against every human performance out, and a verdict where there is a baseline."""

from __future__ import annotations

from typing import Any

from dexter_model.errors import RegressionError
from dexter_model.metrics.regression import headline, told
from dexter_model.places import absolute, name_of
from flows.facts import of_evaluation
from flows.parameters import EvaluateParameters
from tasks.evaluate import EvaluationResult
from tasks.evaluate import evaluate as evaluate_renders
from tasks.orchestration import HOUR, flow, publish_link, publish_markdown, tag_run
from tasks.progress import say
from tasks.report import ReportInputs, write_report
from tasks.runs import recorded


@flow(name="evaluate", flow_run_name="evaluate {parameters.out}", timeout_seconds=12 * HOUR)
@recorded("evaluate", lambda parameters: parameters.out, of_evaluation)
def evaluate(parameters: EvaluateParameters, page: bool = True) -> EvaluationResult:
    """Measure renders against every human performance of their pieces, beside the references.

    Beside a verdict goes a ``page``, unless a job writes one of its own.

    Raises:
        RegressionError: they are worse than the baseline; everything was written and published before.
    """
    tag_run(store=parameters.store)
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
        _judge(result.regression, _page(parameters) if page else None, result)
    return result


def _page(parameters: EvaluateParameters) -> str:
    """A report beside the evaluation, headed by the verdict."""
    inputs = ReportInputs(
        store_url=parameters.store,
        version=parameters.version,
        renders=parameters.renders,
        external=parameters.external,
        evaluation=parameters.out,
    )
    return absolute(write_report(inputs, parameters.out))


def _judge(verdict: dict[str, Any], page: str | None, result: EvaluationResult) -> None:
    """Tell and publish the verdict; raise if it is bad."""
    lines = told(verdict)
    told_whole = [f"**{headline(verdict)}**", "", *(f"- {line}" for line in lines)]
    publish_markdown("regression", "\n".join(told_whole), "Beside the baseline")
    say(headline(verdict))
    if page is not None:
        publish_link("report", page, name_of(page))
        say(f"report: {page}")
    if lines:
        raise RegressionError(lines, result)
