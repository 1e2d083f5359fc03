"""How well systems perform, in one table: correlations, error, spread and divergence, over works.

Each performance is compared with every human of its piece; the mean over them is the piece's figure, the mean over
pieces the work's, and intervals are by bootstrap over works, so that a work in two corpora or with and without repeats
counts once. A constant prediction has a correlation of 0 here, so that deadpan has a row that can be compared.

Cells are {mean, low, high} or None; a table has ``columns`` and, a row a system, as many ``cells``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import polars as pl

from dexter_model.metrics.contests import REFERENCES
from dexter_model.metrics.distributions import STATED
from dexter_model.metrics.intervals import Interval, mean_over_units, paired_difference

PieceKey = tuple[str, str]  # corpus and key
Cell = dict[str, float | None]


class Figure(NamedTuple):
    """A column: the feature and measure it is made of, and what people call it."""

    feature: str
    measure: str
    label: str


PEARSONS = (
    Figure("velocity", "correlation", "Pearson of velocity"),
    Figure("log_ioi", "correlation", "Pearson of log IOI ratio"),
    Figure("timing", "correlation", "Pearson of timing"),
    Figure("articulation", "correlation", "Pearson of articulation"),
    Figure("pedal", "correlation", "Pearson of pedal"),
)
_SPREADS = ("log_beat_period", "velocity", "timing", "articulation", "pedal")
_DIVERGENCES = ("velocity", "duration", "ioi", "pedal")
FIGURES = (
    *PEARSONS,
    Figure("velocity", "mean_absolute_error", "MAE of velocity"),
    *(Figure(name, "spread", f"Spread of {name.replace('_', ' ')} / human") for name in _SPREADS),
    *(Figure(name, "js", f"JS of {name} a piece") for name in _DIVERGENCES),
)


def performance_table(
    measures: pl.DataFrame, systems: Sequence[str], pooled: Sequence[Mapping[str, Any]], seed: int
) -> dict[str, Any]:
    """A row a system, a column a figure, as JSON values.

    Args:
        measures: rows of comparisons (``metrics.tables.SCHEMA``).
        systems: in the order of the table.
        pooled: divergences over the whole split (``metrics.distributions.pooled``).
        seed: of the bootstrap.
    """
    works = _works(measures)
    shared = {(row["system"], row["feature"]): {"mean": row["js"], "low": None, "high": None} for row in pooled}
    rows = []
    for system in systems:
        cells: list[Cell | None] = [
            cell(mean_over_units(values_of(measures, system, figure), works, seed)) for figure in FIGURES
        ]
        rows.append({"label": system, "cells": cells + [shared.get((system, name)) for name in _DIVERGENCES]})
    return {
        "heading": "Performances against every human",
        "note": f"Means and 95 % intervals over {len(set(works.values()))} works; a constant prediction correlates 0. "
        f"JS: Jensen-Shannon divergence, base 2 ({STATED}).",
        "columns": [*(figure.label for figure in FIGURES), *(f"JS of {name} pooled" for name in _DIVERGENCES)],
        "rows": rows,
    }


def differences(measures: pl.DataFrame, systems: Sequence[str], seed: int) -> list[dict[str, Any]]:
    """How much better each system correlates than each one after it and each reference, by paired bootstrap over works.

    Returns:
        Rows of system, against, feature, mean, low, high (of the difference of Pearson correlations), works.
    """
    works = _works(measures)
    by_piece = {(name, figure): values_of(measures, name, figure) for name in systems for figure in PEARSONS}
    rows = []
    for place, system in enumerate(systems):
        for other in systems[place + 1 :] if system not in REFERENCES else ():
            for figure in PEARSONS:
                ours, theirs = by_piece[system, figure], by_piece[other, figure]
                found = cell(paired_difference(ours, theirs, works, seed))
                if found is not None:
                    number = len({works[piece] for piece in ours.keys() & theirs.keys()})
                    rows.append(
                        {"system": system, "against": other, "feature": figure.feature, **found, "works": number}
                    )
    return rows


def values_of(measures: pl.DataFrame, system: str, figure: Figure) -> dict[PieceKey, float]:
    """A system's figure of every piece: the mean over its samples and humans, a constant's correlation taken for 0."""
    rows = measures.filter(system=system, feature=figure.feature, measure=figure.measure)
    if figure.measure == "correlation":
        flat = pl.col("undefined") == "constant prediction"
        rows = rows.with_columns(value=pl.when(flat).then(0.0).otherwise("value"))
    means = rows.group_by("corpus", "piece").agg(pl.col("value").mean()).drop_nulls().sort("corpus", "piece")
    return {(corpus, piece): float(value) for corpus, piece, value in means.iter_rows()}


def _works(measures: pl.DataFrame) -> dict[PieceKey, str]:
    return {
        (corpus, piece): work for corpus, piece, work in measures.select("corpus", "piece", "work").unique().iter_rows()
    }


def cell(interval: Interval) -> Cell | None:
    """An interval as JSON values, None where there is not even a mean."""
    if math.isnan(interval.mean):
        return None
    return {name: None if math.isnan(value) else float(value) for name, value in interval._asdict().items()}
