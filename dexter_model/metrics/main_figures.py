"""The few figures that a system is judged by, piece by piece: what regressions and sweeps compare.

Two things differ from the tables of an evaluation, where an undefined figure is left out. A constant prediction has a
correlation of 0 here: a model that went flat must look worse, not vanish from the mean. And where figures are judged,
spread counts by its distance from the human's, since both flat and wild are worse.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from dexter_model.metrics.comparison import CONSTANT_PREDICTION
from dexter_model.metrics.tolerance import Kind

PieceKey = tuple[str, str]  # corpus and key


@dataclass(frozen=True)
class MainFigure:
    """A feature and a measure of it; ``kind`` is which tolerance holds for it, ``of`` and ``unit`` are for people."""

    name: str
    feature: str
    measure: str
    kind: Kind
    of: str
    unit: str = ""

    @property
    def higher_is_better(self) -> bool:
        """Whether more of it is better; of errors and distances it is less."""
        return self.kind == "correlation"

    @property
    def label(self) -> str:
        """What people call it: ``Velocity correlation``."""
        return f"{self.of} {KINDS[self.kind].lower()}"


KINDS: dict[Kind, str] = {"correlation": "Correlation", "velocity_error": "Error", "spread": "Spread / human's"}


def _correlation(feature: str, of: str) -> MainFigure:
    return MainFigure(f"{feature}_correlation", feature, "correlation", "correlation", of)


MAIN_FIGURES = (
    _correlation("velocity", "Velocity"),
    _correlation("log_beat_period", "Tempo"),
    _correlation("log_ioi", "Log IOI"),
    _correlation("timing", "Timing"),
    _correlation("articulation", "Articulation"),
    _correlation("articulation_keydown", "Key-down articulation"),
    _correlation("pedal", "Pedal"),
    MainFigure("velocity_error", "velocity", "mean_absolute_error", "velocity_error", "Velocity", "MIDI velocity"),
    MainFigure("velocity_spread", "velocity", "spread", "spread", "Velocity"),
    MainFigure("tempo_spread", "log_beat_period", "spread", "spread", "Tempo"),
)


def compared_pieces(measures: pl.DataFrame) -> pl.DataFrame:
    """The measures of pieces that people played; of the synthetic ones where there are no others."""
    real = measures.filter(~pl.col("synthetic"))
    return real if len(real) else measures


def by_human(measures: pl.DataFrame, system: str, figure: MainFigure) -> pl.DataFrame:
    """A system's figure against each human performance: corpus, piece, human, value; the mean over its samples."""
    wanted = {"system": system, "feature": figure.feature, "measure": figure.measure}
    flat = (pl.col("undefined") == CONSTANT_PREDICTION) & (figure.kind == "correlation")
    rows = measures.filter(**wanted).with_columns(value=pl.when(flat).then(0.0).otherwise("value"))
    groups = rows.drop_nulls("value").group_by("corpus", "piece", "human")
    return groups.agg(pl.col("value").mean()).sort("corpus", "piece", "human")


def by_piece(of_humans: pl.DataFrame, column: str = "value") -> dict[PieceKey, float]:
    """The figure of every piece: the mean over its humans."""
    means = of_humans.group_by("corpus", "piece").agg(pl.col(column).mean()).sort("corpus", "piece")
    return {(corpus, piece): float(value) for corpus, piece, value in means.iter_rows()}


def off_human(values: dict[PieceKey, float], figure: MainFigure) -> dict[PieceKey, float]:
    """Figures as better or worse: of a spread its distance from 1, of the others themselves."""
    return {piece: abs(value - 1.0) if figure.kind == "spread" else value for piece, value in values.items()}
