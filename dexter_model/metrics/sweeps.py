"""Settings of one sweep beside each other: figures with intervals, what is worth its cost, and which to choose.

Quality is the mean of the correlations of velocity and of tempo with the human performances, note by note, over pieces.
It alone would choose the flattest renders, since a conditional mean correlates best (one sampling step nearly is one):
a setting can only be chosen where velocity and tempo vary within 25 % of what humans do, as long as any setting does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from dexter_model.metrics.intervals import bootstrap_mean, paired_difference
from dexter_model.metrics.main_figures import MAIN_FIGURES, PieceKey, by_human, by_piece, compared_pieces

QUALITY = ("velocity_correlation", "log_beat_period_correlation")
SPREADS = ("velocity_spread", "tempo_spread")
MOST_OFF = 0.25  # of the human's spread

ByPiece = dict[PieceKey, float]


def compare_settings(measures: pl.DataFrame, costs: Mapping[str, int], seed: int) -> dict[str, Any]:
    """Compare the settings of a sweep.

    Args:
        measures: of all of them, a system each (``metrics.tables.measures_frame``).
        costs: evaluations of the network that a window takes, by system.
        seed: of the bootstrap.

    Returns:
        JSON values: ``rows``, a setting each, with ``cost``, ``quality``, every main figure (mean, low, high, pieces),
        ``calibrated`` (its spread is within bounds) and ``front`` (no setting that may be chosen is both as cheap and
        better); ``best`` and ``frugal``, the cheapest that is not clearly worse than the best.
    """
    measures = compared_pieces(measures)
    figures = {name: {f.name: by_piece(by_human(measures, name, f)) for f in MAIN_FIGURES} for name in costs}
    qualities = {name: _quality(figures[name]) for name in costs if _quality(figures[name])}
    rows = [_row(name, costs[name], figures[name], qualities[name], seed) for name in qualities]
    allowed = [row for row in rows if row["calibrated"]] or rows
    for row in rows:
        row["front"] = row in allowed and not any(_dominates(other, row) for other in allowed)
    best = max(allowed, key=lambda row: (row["quality"]["mean"], -row["cost"]), default=None)
    return {
        "rows": rows,
        "best": best["system"] if best else None,
        "frugal": _frugal(allowed, best, qualities, seed) if best else None,
    }


def _quality(figures: Mapping[str, ByPiece]) -> ByPiece:
    """The mean of the two correlations of every piece that has both."""
    first, second = (figures[name] for name in QUALITY)
    return {piece: (first[piece] + second[piece]) / 2 for piece in first if piece in second}


def _row(name: str, cost: int, figures: Mapping[str, ByPiece], quality: ByPiece, seed: int) -> dict[str, Any]:
    told = {figure: _interval(values, seed) for figure, values in figures.items() if values}
    spreads = [told[spread]["mean"] for spread in SPREADS if spread in told]
    calibrated = len(spreads) == len(SPREADS) and max(abs(spread - 1) for spread in spreads) <= MOST_OFF
    about = {"system": name, "cost": cost, "quality": _interval(quality, seed), "calibrated": calibrated}
    return about | {"figures": told}


def _interval(values: ByPiece, seed: int) -> dict[str, Any]:
    mean, low, high = bootstrap_mean(np.array(list(values.values())), seed=seed)
    return {
        "mean": mean,
        "low": None if np.isnan(low) else low,
        "high": None if np.isnan(high) else high,
        "pieces": len(values),
    }


def _dominates(other: Mapping[str, Any], row: Mapping[str, Any]) -> bool:
    """Whether ``other`` costs no more and is better, or is as good and costs less."""
    ours, theirs = row["quality"]["mean"], other["quality"]["mean"]
    return (other["cost"] <= row["cost"] and theirs > ours) or (other["cost"] < row["cost"] and theirs >= ours)


def _frugal(
    rows: Sequence[Mapping[str, Any]], best: Mapping[str, Any], qualities: Mapping[str, ByPiece], seed: int
) -> str:
    """The cheapest setting whose difference from the best could be chance; the better one of equally cheap ones."""
    good = [row for row in rows if row is best or _as_good(qualities[row["system"]], qualities[best["system"]], seed)]
    chosen = min(good, key=lambda row: (row["cost"], -row["quality"]["mean"]))
    return str(chosen["system"])


def _as_good(ours: ByPiece, theirs: ByPiece, seed: int) -> bool:
    return paired_difference(ours, theirs, seed=seed).high >= 0
