"""An earlier evaluation that a new one is held against."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from dexter_model.digests import sha256_bytes
from dexter_model.errors import InputError
from dexter_model.metrics.regression import regression
from dexter_model.metrics.tables import SCHEMA
from dexter_model.metrics.tolerance import Tolerance
from dexter_model.places import copy_of, join, name_of, read

EVALUATION, MEASURES = "evaluation.json", "measures.parquet"  # the files of an evaluation
COLUMNS = ("system", "corpus", "piece", "synthetic", "human", "feature", "measure", "value", "undefined")
REMEDY = "Give a folder that `dexter evaluate` wrote, or one of `dexter run`"


@dataclass(frozen=True, eq=False)
class Baseline:
    """An evaluation as it was stored: what people call it, ``evaluation.json``, and the table of measures."""

    name: str
    content: dict[str, Any]
    measures: pl.DataFrame


def read_baseline(folder: str | Path, out: str | Path) -> Baseline:
    """Read an evaluation's folder, or the folder of a whole job that has it inside.

    Args:
        folder: where the evaluation is.
        out: where the new one goes, which must be elsewhere.

    Raises:
        InputError: it is none, is damaged (``baseline_unreadable``), or would be overwritten (``baseline_is_out``).
    """
    name, folder = located(folder, out, EVALUATION)
    try:
        content = json.loads(read(join(folder, EVALUATION)))
        data = read(join(folder, MEASURES))
        if sha256_bytes(data) != content["measures_digest"]:
            raise ValueError(f"{MEASURES} is not the one it was written with")
        if not all(isinstance(system["name"], str) for system in content["systems"]):
            raise ValueError("a system has no name")
        measures = pl.read_parquet(io.BytesIO(data)).select(pl.col(name).cast(SCHEMA[name]) for name in COLUMNS)
    except (OSError, ValueError, KeyError, TypeError, pl.exceptions.PolarsError) as error:
        reason = f"not an evaluation ({type(error).__name__}: {error})"
        raise InputError(folder, reason, REMEDY, "baseline_unreadable") from error
    return Baseline(name, content, measures)


def located(folder: str | Path, out: str | Path, file: str) -> tuple[str, str]:
    """What people call an evaluation, and where its ``file`` is: in the folder, or of a whole job in it.

    Raises:
        InputError: a new evaluation in ``out`` would overwrite it (``baseline_is_out``).
    """
    inside = join(folder, "evaluation")
    found = inside if _is_there(join(inside, file)) else str(folder)
    if copy_of(found).resolve() == copy_of(out).resolve():
        reason = "is where this evaluation goes, and would be overwritten"
        raise InputError(found, reason, "Name another folder with --out", "baseline_is_out")
    return name_of(folder), found


def _is_there(file: str) -> bool:
    try:
        return bool(read(file))
    except OSError:
        return False


def hold_against(
    baseline: Baseline,
    measures: pl.DataFrame,
    systems: Sequence[Mapping[str, Any]],
    data_set: Mapping[str, str],
    tolerance: Tolerance,
    seed: int,
) -> dict[str, Any]:
    """The verdict on a new evaluation, as JSON values (``metrics.regression`` and where the baseline comes from).

    Raises:
        InputError: nothing is in both that could be compared, and nothing is lost (``baseline_unlike``).
    """
    pairs = paired_systems(systems, baseline.content["systems"])
    verdict = regression(measures, baseline.measures, pairs, tolerance, seed)
    if not verdict["comparisons"] and not verdict["lost"]:
        reason = "has no system and piece in common with this evaluation"
        raise InputError(baseline.name, reason, "Evaluate renders of the same pieces", "baseline_unlike")
    about = {name: baseline.content.get(name) for name in ("measures_digest", "data_set", "code_version")}
    about |= {"name": baseline.name, "same_data_set": about["data_set"] == data_set}
    return {"baseline": about, "tolerance": asdict(tolerance), **verdict}


def paired_systems(now: Sequence[Mapping[str, Any]], before: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Systems of equal names; where none is, the only one of each side (external renderers aside)."""
    names = {system["name"] for system in before}
    same = [(system["name"], system["name"]) for system in now if system["name"] in names]
    ours, theirs = ([system["name"] for system in side if not system.get("midi_only")] for side in (now, before))
    alone = len(ours) == len(theirs) == 1 and ours != theirs
    return [(ours[0], theirs[0]), *same] if alone else same
