"""What a job of several flows shares with others of its kind: stages that are timed, and the record it leaves."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pydantic import BaseModel

from dexter_model import places
from dexter_model.digests import code_version, json_digest
from dexter_model.errors import RegressionError
from flows.evaluate import evaluate
from flows.parameters import EvaluateParameters
from tasks.evaluate import EvaluationResult
from tasks.progress import say
from tasks.render import RenderResult

RUN = "run.json"
Result = TypeVar("Result")


class Stages:
    """The stages of a job that are done: ``rows`` with name, seconds, and what else is told of them."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def run(self, name: str, work: Callable[[], Result]) -> Result:
        """Do a stage; it gets a row when it is done."""
        say(f"-- {name}")
        began = time.monotonic()
        result = work()
        self.rows.append({"name": name, "seconds": round(time.monotonic() - began, 1)})
        return result

    def tell(self, **about: Any) -> None:
        """What the last stage made: its digest, version, seed."""
        self.rows[-1] |= about

    def record(self, folder: str, parameters: BaseModel, **more: Any) -> None:
        """Write ``run.json``: what decides the artefacts, and their digests; no times, so that equal runs are equal."""
        artefacts = {row["name"]: row["digest"] for row in self.rows if "digest" in row}
        content = {"code_version": code_version(), "parameters": parameters.model_dump(mode="json"), **more}
        content["artefacts"] = artefacts
        places.write(places.join(folder, RUN), (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())

    def as_markdown(self) -> str:
        """A table of the stages, for Prefect's artifact."""
        rows = [f"| {s['name']} | {s['seconds']:.1f} | `{str(s.get('digest', ''))[:12]}` |" for s in self.rows]
        return "\n".join(["| stage | s | digest |", "|---|---|---|", *rows])


def digest_of_renders(result: RenderResult) -> str:
    """Digest of what was rendered, by name."""
    return json_digest([[row["name"], row["digest"], row["codec_digest"]] for row in result.renders])


def evaluated(parameters: EvaluateParameters) -> tuple[EvaluationResult, RegressionError | None]:
    """The evaluation, and what is to be raised when the job's report is written."""
    try:
        return evaluate(parameters, page=False), None
    except RegressionError as error:
        return error.result, error
