"""What a job of several flows shares with others of its kind: stages that are timed, and the record it leaves."""

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
from tasks.progress import say
from tasks.runs import stage

RUN = "run.json"
Result = TypeVar("Result")


class Stages:
    """The stages of a job that are done: ``rows`` of the record of its run (``tasks.runs``)."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def run(self, name: str, work: Callable[[], Result]) -> Result:
        """Do a stage; it gets a row when it is done."""
        say(f"-- {name}")
        with stage(name) as row:
            result = work()
        self.rows.append(row)
        return result

    def tell(self, **about: Any) -> None:
        """What else there is to tell of the last stage: its seed, a verdict."""
        self.rows[-1] |= about

    def record(self, folder: str, parameters: BaseModel, **more: Any) -> None:
        """Write ``run.json``: what decides the artefacts, and their digests; no times, so that equal runs are equal."""
        artefacts = {row["name"]: row["digest"] for row in self.rows if "digest" in row}
        content = {"code_version": code_version(), "parameters": parameters.model_dump(mode="json"), **more}
        content["artefacts"] = artefacts
        places.write(places.join(folder, RUN), (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())

    def as_markdown(self) -> str:
        """A table of the stages, for Prefect's artifact."""
        rows = [
            f"| {row['name']} | {row['seconds']:.1f} | {row['cpu_seconds']:.0f} | {row['cost']:.4f} "
            f"| {str(row.get('digest') or '–')[:12]} |"
            for row in self.rows
        ]
        head = f"| stage | s | CPU s | {currency()}, estimated | digest |"
        return "\n".join([head, "|---|---|---|---|---|", *rows])


def evaluated(parameters: EvaluateParameters) -> tuple[EvaluationResult, RegressionError | None]:
    """The evaluation, and what is to be raised when the job's report is written."""
    try:
        return evaluate(parameters, page=False), None
    except RegressionError as error:
        return error.result, error
