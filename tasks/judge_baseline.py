"""What a judgement of generated music is stored as, and an earlier one that a new one is held against."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dexter_model.digests import sha256_bytes
from dexter_model.errors import InputError
from dexter_model.metrics.generated import HUMAN, MAIN, Drawn, Table
from dexter_model.metrics.generated_regression import GeneratedTolerance, regression
from dexter_model.places import join, read
from tasks.baseline import REMEDY, located

JUDGEMENT, DRAWS = "judgement.json", "draws.parquet"


def draws_of(tables: Mapping[str, Table]) -> bytes:
    """``draws.parquet``: a row a system, feature and measure: value and draws."""
    found = [
        {"system": system, "feature": feature, "measure": measure, "value": drawn.value, "draws": drawn.draws.tolist()}
        for system, table in tables.items()
        for (feature, measure), drawn in table.items()
        if measure in MAIN
    ]
    schema = {"system": pl.String, "feature": pl.String, "measure": pl.String, "value": pl.Float64}
    buffer = io.BytesIO()
    pl.DataFrame(found, schema=schema | {"draws": pl.List(pl.Float64)}).write_parquet(buffer, compression="zstd")
    return buffer.getvalue()


@dataclass(frozen=True, eq=False)
class Baseline:
    """A judgement as it was stored: what people call it, ``judgement.json``, and its figures with their draws."""

    name: str
    content: dict[str, Any]
    tables: dict[str, Table]


def read_baseline(folder: str | Path, out: str | Path) -> Baseline:
    """Read a judgement's folder, or the folder of a whole night that has it inside.

    Raises:
        InputError: it is none, is damaged (``baseline_unreadable``), or would be overwritten (``baseline_is_out``).
    """
    name, folder = located(folder, out, JUDGEMENT)
    try:
        content = json.loads(read(join(folder, JUDGEMENT)))
        data = read(join(folder, DRAWS))
        if sha256_bytes(data) != content["draws_digest"]:
            raise ValueError(f"{DRAWS} is not the one it was written with")
        tables: dict[str, Table] = {}
        for row in pl.read_parquet(io.BytesIO(data)).iter_rows(named=True):
            drawn = Drawn(float(row["value"]), np.array(row["draws"], float))
            tables.setdefault(row["system"], {})[row["feature"], row["measure"]] = drawn
        assert isinstance(content["held_out"]["digest"], str)
        assert set(map(len, tables.values())) == {len(tables[HUMAN])}
    except (OSError, ValueError, KeyError, TypeError, AssertionError, pl.exceptions.PolarsError) as error:
        reason = f"not a judgement ({type(error).__name__}: {error})"
        raise InputError(folder, reason, REMEDY, "baseline_unreadable") from error
    return Baseline(name, content, tables)


def hold_against(
    baseline: Baseline, tables: Mapping[str, Table], content: Mapping[str, Any], tolerance: GeneratedTolerance
) -> dict[str, Any]:
    """The verdict on a new judgement, as JSON values.

    Raises:
        InputError: it is on other held-out music or with another seed, or has no system in common
            (``baseline_unlike``).
    """
    same = ("format", "seed", "excerpts")
    alike = [(each["held_out"]["digest"], *map(each.get, same)) for each in (baseline.content, content)]
    if alike[0] != alike[1]:
        reason = "was measured on other held-out music, by another version of the measures or with another seed"
        raise InputError(baseline.name, reason, "Judge its pieces again on this data set", "baseline_unlike")
    same_data_set = baseline.content.get("data_set") == content["data_set"]
    # Copies are looked up in a data set's training split: those in another one are no fewer or more.
    figures = [figure for figure in MAIN if same_data_set or figure != "copy_rate"]
    verdict = regression(tables, baseline.tables, tolerance, figures)
    if not verdict["comparisons"] and not verdict["lost"]:
        reason = "has no system in common with this judgement"
        raise InputError(baseline.name, reason, "Give systems the names they have there", "baseline_unlike")
    about = {name: baseline.content.get(name) for name in ("draws_digest", "data_set", "code_version")}
    about |= {"name": baseline.name, "same_data_set": same_data_set}
    return {"baseline": about, "tolerance": asdict(tolerance), **verdict}
