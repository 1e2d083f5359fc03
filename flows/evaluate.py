"""Flow: renders in, measures against every human performance out."""

from __future__ import annotations

from flows.parameters import EvaluateParameters
from tasks.evaluate import EvaluationResult
from tasks.evaluate import evaluate as evaluate_renders
from tasks.orchestration import flow, publish_markdown
from tasks.progress import say


@flow(name="evaluate", flow_run_name="evaluate {parameters.out}")
def evaluate(parameters: EvaluateParameters) -> EvaluationResult:
    """Measure renders against every human performance of their pieces, beside the references."""
    result = evaluate_renders(
        parameters.store, parameters.renders, parameters.out, parameters.version, workers=parameters.workers
    )
    summary = (
        f"{result.renders} renders of {result.pieces} pieces measured, {len(result.refused)} refused, in {result.out}"
    )
    for row in result.refused:
        say(f"refused ({row['code']}) {row['system']} {row['name']}: {row['reason']}")
    say(summary)
    publish_markdown("evaluation", summary, "Evaluation")
    return result
