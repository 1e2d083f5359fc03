"""What the record of a run keeps of each flow's result: digests of what went in and came out, counts, figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dexter_model import places
from dexter_model.digests import json_digest
from tasks.runs import PASSED, REGRESSION

if TYPE_CHECKING:
    from tasks.build import BuildResult
    from tasks.evaluate import EvaluationResult
    from tasks.judge import JudgeResult
    from tasks.render import RenderResult
    from tasks.train import TrainResult


def of_build(result: BuildResult) -> dict[str, Any]:
    """The version and its counts."""
    return {
        "version": result.version,
        "digest": result.digest,
        "pieces": result.pieces,
        "performances": result.built,
        "encoded": len(result.runs),
        "quarantined": result.quarantined,
    }


def of_training(result: TrainResult) -> dict[str, Any]:
    """The checkpoint, and the data set it was trained on."""
    return {
        "digest": result.digest,
        "steps": result.steps,
        "loss": round(result.loss, 4),
        "inputs": {"data set": result.dataset},
    }


def of_renders(result: RenderResult) -> dict[str, Any]:
    """Digest of all renders by name, how many there are, and the checkpoint they were made with."""
    return {
        "digest": json_digest([[row["name"], row["digest"], row.get("codec_digest")] for row in result.renders]),
        "renders": len(result.renders),
        "made": result.made,
        "quarantined": len(result.quarantined),
        "inputs": {f"checkpoint {result.checkpoint['label']}": result.checkpoint["digest"]},
    }


def of_evaluation(result: EvaluationResult | JudgeResult) -> dict[str, Any]:
    """The verdict if there is a baseline, the main figures of every system, and what was compared."""
    if not hasattr(result, "renders"):
        return _of_judgement(result)
    from dexter_model.metrics.regression import headline  # polars: not for who renders one file

    content: dict[str, Any] = json.loads(places.read(places.join(str(result.out), "evaluation.json")))
    systems = {f"system {system['name']}": system["renders_digest"] for system in content["systems"]}
    facts = {
        "digest": result.digest,
        "renders": result.renders,
        "quarantined": len(result.refused),
        "inputs": {"data set": content["data_set"]["digest"], **systems},
        "figures": figures(content),
    }
    if result.regression:
        facts["verdict"] = PASSED if result.regression["passed"] else REGRESSION
        facts["headline"] = headline(result.regression)
    return facts


def _of_judgement(result: JudgeResult) -> dict[str, Any]:
    from dexter_model.metrics.generated_regression import headline

    content: dict[str, Any] = json.loads(places.read(places.join(result.out, "judgement.json")))
    systems = {f"system {system['name']}": system["digest"] for system in content["systems"]}
    main: dict[str, dict[str, float]] = {}
    for row in result.rows:
        if not row["feature"] and row["mean"] is not None:
            main.setdefault(row["system"], {})[row["measure"]] = round(row["mean"], 4)
    facts = {
        "digest": result.digest,
        "renders": result.pieces,
        "quarantined": len(result.refused),
        "inputs": {"data set": content["data_set"]["digest"], **systems},
        "figures": main,
    }
    if result.regression:
        facts["verdict"] = PASSED if result.regression["passed"] else REGRESSION
        facts["headline"] = headline(result.regression)
    return facts


def figures(evaluation: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The main figures of ``evaluation.json`` by system and name; of people's pieces where there are any."""
    from dexter_model.metrics.main_figures import MAIN_FIGURES

    tables = sorted(evaluation["tables"], key=lambda table: table["synthetic"])
    names = {(figure.feature, figure.measure): figure.label for figure in MAIN_FIGURES}
    found: dict[str, dict[str, float]] = {}
    for row in tables[0]["rows"] if tables else ():
        name = names.get((row["feature"], row["measure"]))
        if name is not None and row["mean"] is not None:
            found.setdefault(row["system"], {})[name] = row["mean"]
    return found
