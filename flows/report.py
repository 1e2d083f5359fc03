"""Flow: what the stages left in, one page that a person reads out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from dexter_model.places import absolute, name_of
from flows.parameters import ReportParameters
from tasks.orchestration import HOUR, flow, publish_link
from tasks.progress import say
from tasks.report import ReportInputs, write_report


@flow(name="report", flow_run_name="report {parameters.out}", timeout_seconds=2 * HOUR)
def report(parameters: ReportParameters, stages: Sequence[Mapping[str, Any]] = ()) -> str:
    """Write one self-contained HTML file; ``stages`` tells what ran, if something did."""
    inputs = ReportInputs(
        store_url=parameters.store,
        version=parameters.version,
        checkpoint=parameters.checkpoint,
        renders=parameters.renders,
        evaluation=parameters.evaluation,
        sweep=parameters.sweep,
        stages=stages,
    )
    path = absolute(write_report(inputs, parameters.out))
    publish_link("report", path, name_of(path))
    say(f"report: {path}")
    return path
