"""What jobs of several flows share: their stages, rows of the run's record (``tasks.runs``), and ``run.json``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from dexter_model import places
from dexter_model.digests import code_version
from dexter_model.errors import RegressionError
from dexter_model.prices import currency
from flows.evaluate import evaluate
from flows.parameters import EvaluateParameters
from tasks.evaluate import EvaluationResult
from tasks.judge import JudgeResult
from tasks.progress import say
from tasks.runs import stage, stages_done

RUN = "run.json"
Result = TypeVar("Result")


def run_stage(name: str, work: Callable[[], Result]) -> Result:
    """Do a stage of the run under way."""
    say(f"-- {name}")
    with stage(name):
        return work()


def tell(**about: Any) -> None:
    """What else there is to tell of the last stage: its seed, a verdict."""
    stages_done()[-1].update(about)


def write_run(folder: str, parameters: BaseModel, **more: Any) -> None:
    """Write ``run.json``: what decides the artefacts, and their digests; no times, so that equal runs are equal."""
    content = {"code_version": code_version(), "parameters": parameters.model_dump(mode="json"), **more}
    content["artefacts"] = {row["name"]: row["digest"] for row in stages_done() if "digest" in row}
    places.write(places.join(folder, RUN), (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())


def table_of_stages() -> str:
    """A table of the stages of the run under way, for Prefect's artifact."""
    rows = [
        f"| {row['name']} | {row['seconds']:.1f} | {row['cpu_seconds']:.0f} | {row['cost']:.4f} "
        f"| {str(row.get('digest') or '–')[:12]} |"
        for row in stages_done()
    ]
    head = f"| stage | s | CPU s | {currency()}, estimated | digest |"
    return "\n".join([head, "|---|---|---|---|---|", *rows])


def evaluated(parameters: EvaluateParameters) -> tuple[EvaluationResult | JudgeResult, RegressionError | None]:
    """The evaluation, and what is to be raised when the job's report is written."""
    try:
        return evaluate(parameters, page=False), None
    except RegressionError as error:
        return error.result, error
