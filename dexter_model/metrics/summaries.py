"""How well systems perform, in a few tables: correlations, error, spread and divergence, over works.

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

from dexter_model.metrics.comparison import CONSTANT_PREDICTION
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
    Figure("velocity", "correlation", "Velocity"),
    Figure("log_ioi", "correlation", "Log IOI ratio"),
    Figure("timing", "correlation", "Timing"),
    Figure("articulation", "correlation", "Articulation"),
    Figure("pedal", "correlation", "Pedal"),
)
_SPREADS = ("log_beat_period", "velocity", "timing", "articulation", "pedal")
_DIVERGENCES = {"velocity": "Velocity", "duration": "Duration", "ioi": "IOI", "pedal": "Pedal"}
_PARTS = (
    ("Pearson correlation", "With every human of the piece; a constant prediction correlates 0.", PEARSONS),
    (
        "Error and spread",
        "Mean absolute error in MIDI velocities; standard deviation of a column relative to the human's.",
        (
            Figure("velocity", "mean_absolute_error", "MAE of velocity"),
            *(Figure(name, "spread", f"Spread of {name.replace('_', ' ')}") for name in _SPREADS),
        ),
    ),
    (
        "Jensen-Shannon divergence",
        f"Base 2, 0 is the same distribution. Bins: {STATED}. Pooled: of all pieces together.",
        tuple(Figure(name, "js", f"{label}, a piece") for name, label in _DIVERGENCES.items()),
    ),
)


def performance_tables(
    measures: pl.DataFrame, systems: Sequence[str], pooled: Sequence[Mapping[str, Any]], seed: int
) -> list[dict[str, Any]]:
    """Correlations, error and spread, divergences: a table each, a row a system, a column a figure, as JSON values.

    Args:
        measures: rows of comparisons (``metrics.tables.SCHEMA``).
        systems: in the order of the tables.
        pooled: divergences over the whole split (``metrics.distributions.pooled``).
        seed: of the bootstrap.
    """
    works = _works(measures)
    found: list[dict[str, Any]] = []
    for heading, note, figures in _PARTS:
        rows = [
            {
                "label": system,
                "cells": [cell(mean_over_units(values_of(measures, system, f), works, seed)) for f in figures],
            }
            for system in systems
        ]
        found.append({"heading": heading, "note": note, "columns": [f.label for f in figures], "rows": rows})
    shared = {(row["system"], row["feature"]): {"mean": row["js"], "low": None, "high": None} for row in pooled}
    found[-1]["columns"] += [f"{label}, pooled" for label in _DIVERGENCES.values()]
    for row in found[-1]["rows"]:
        row["cells"] += [shared.get((row["label"], name)) for name in _DIVERGENCES]
    return found


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
        flat = pl.col("undefined") == CONSTANT_PREDICTION
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
