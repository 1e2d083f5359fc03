"""From a row a measure to a row a system: means over pieces with their intervals.

A piece's figure is the mean over its renders and its humans where the measure is defined; a system's figure is the mean
over pieces. Undefined comparisons are counted beside it, never taken for a number.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from dexter_model.metrics.contests import HUMAN, REFERENCES
from dexter_model.metrics.distributions import Distributions, pooled
from dexter_model.metrics.intervals import bootstrap_mean
from dexter_model.metrics.published import attribute_tables, setting_tables, steering_tables
from dexter_model.metrics.summaries import differences, performance_tables

SCHEMA = {
    "system": pl.String,
    "reference": pl.Boolean,
    "corpus": pl.String,
    "piece": pl.String,
    "work": pl.String,
    "synthetic": pl.Boolean,
    "render": pl.String,
    "sample": pl.Int32,
    "human": pl.String,
    "feature": pl.String,
    "measure": pl.String,
    "value": pl.Float64,
    "undefined": pl.String,
    "n": pl.Int32,
    "near_zero": pl.Float64,
}
SYNTHETIC_HEADING = "synthetic: shows the plumbing, not the model"
REAL_HEADING = "Human performances"
NOT_AVAILABLE = "not available"


def measures_frame(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Measures as a table, undefined figures as null."""
    frame = pl.DataFrame(rows, schema=SCHEMA, orient="row")
    return frame.with_columns(pl.col("value", "near_zero").fill_nan(None))


def tables(
    measures: pl.DataFrame,
    *,
    seed: int,
    distributions: Iterable[Distributions] = (),
    systems: Sequence[Mapping[str, Any]] = (),
) -> list[dict[str, Any]]:
    """The tables of an evaluation, real pieces and synthetic ones apart, as JSON values.

    Args:
        measures: of all systems (``measures_frame``).
        seed: of the bootstrap.
        distributions: of values, for divergences over the whole split.
        systems: names, and how renders were made, for tables of settings.
    """
    found = []
    for synthetic in sorted(measures["synthetic"].unique()):
        some = measures.filter(pl.col("synthetic") == synthetic)
        table = _table(some, synthetic, seed)
        shared = pooled(one for one in distributions if one.synthetic == synthetic)
        table["performance"] = performance_tables(some, table["systems"], shared, seed)
        table["differences"] = differences(some, table["systems"], seed)
        table["attributes"] = attribute_tables(table)
        table["settings"] = [*setting_tables(table, systems), *steering_tables(table, systems)]
        found.append(table)
    return found


def _table(measures: pl.DataFrame, synthetic: bool, seed: int) -> dict[str, Any]:
    keys = ["system", "feature", "measure"]
    groups = measures.group_by(keys, maintain_order=True)
    rows = [_row(dict(zip(keys, key, strict=True)), group, seed) for key, group in groups]
    humans = measures.filter(pl.col("human") != "").select("corpus", "piece", "human").unique()
    with_ceiling = measures.filter(pl.col("system") == HUMAN).select("corpus", "piece").n_unique()
    return {
        "synthetic": synthetic,
        "heading": SYNTHETIC_HEADING if synthetic else REAL_HEADING,
        "pieces": measures.select("corpus", "piece").n_unique(),
        "performances": len(humans),
        "systems": [*_systems(measures)],
        "ceiling": _ceiling(synthetic, with_ceiling),
        "rules": "left out: it made the data" if synthetic else "",
        "rows": rows,
    }


def _systems(measures: pl.DataFrame) -> list[str]:
    """Renders first, in order of appearance, then the references."""
    present = measures["system"].unique(maintain_order=True).to_list()
    return [s for s in present if s not in REFERENCES] + [s for s in REFERENCES if s in present]


def _ceiling(synthetic: bool, pieces: int) -> str:
    if synthetic:
        return NOT_AVAILABLE
    return (
        f"from {pieces} piece{'s' * (pieces > 1)} with several humans"
        if pieces
        else f"{NOT_AVAILABLE}: one human a piece"
    )


def _row(key: dict[str, str], group: pl.DataFrame, seed: int) -> dict[str, Any]:
    a_piece = group.group_by("corpus", "piece").agg(pl.col("value").mean()).sort("corpus", "piece")
    interval = bootstrap_mean(a_piece["value"].cast(pl.Float64).fill_null(math.nan).to_numpy(), seed=seed)
    undefined = group.filter(pl.col("value").is_null())
    why = undefined.group_by("undefined").len().sort("len", "undefined", descending=[True, False])
    return {
        **key,
        "mean": _json(interval.mean),
        "low": _json(interval.low),
        "high": _json(interval.high),
        "pieces": len(a_piece) - a_piece["value"].null_count(),
        "comparisons": len(group),
        "undefined": len(undefined),
        "why": str(why["undefined"][0]) if len(why) else "",
        "near_zero": _json(group["near_zero"].mean()),
    }


def _json(value: Any) -> float | None:
    return float(value) if value is not None and np.isfinite(value) else None
