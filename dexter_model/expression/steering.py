"""How a performance is to sound: the perceptual rows of a render, from words, numbers, curves or other performances.

Everything is in standard deviations of the checkpoint's training data, the unit that its network was trained in: 0 is
normal, 1 is more. What is not said stays unknown (NaN) where the network has learnt to do without single features
(``feature_dropout``), and is normal otherwise.

Shapes: n notes of a piece, 7 perceptual features.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dexter_model.errors import InputError
from dexter_model.expression.config import PERCEPTUAL_LIMIT, ExpressionConfig
from dexter_model.notes import PERCEPTUAL_FEATURES
from dexter_model.perceptual.features import unknown_values

WORDS = {"less": -1.0, "normal": 0.0, "more": 1.0}
AXES = ("beat", "fraction")
MAX_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Heard:
    """A performance of a score as controls see it: codec (n, 5), perceptual features (n, 7), NaN where not known.

    ``matched`` (n,) bool are the notes that it plays; its codec tells something of the others too.
    """

    codec: np.ndarray
    matched: np.ndarray
    absolute: np.ndarray
    delta: np.ndarray  # less those of the deadpan score

    def features(self, kind: str) -> np.ndarray:
        """(n, 7) of the kind that a model is conditioned on."""
        return self.delta if kind == "delta" else self.absolute


@dataclass(frozen=True, eq=False)
class Curve:
    """Levels over a piece: ``at`` (k,) rising, in score beats or as a fraction of it; ``values`` (k,) by feature."""

    axis: str
    at: np.ndarray
    values: Mapping[str, np.ndarray]

    def rows(self, onset_beat: np.ndarray) -> dict[str, np.ndarray]:
        """Values (n,) at notes with these onsets, by feature: linear between points, level beyond them."""
        place = onset_beat.astype(np.float64)
        if self.axis == "fraction":
            place = (place - place.min()) / max(np.ptp(place), 1e-9)
        return {name: np.interp(place, self.at, values) for name, values in self.values.items()}


def levels(asked: Mapping[str, str | float]) -> dict[str, float]:
    """Standard deviations by feature, of words (``less``, ``normal``, ``more``) and numbers.

    Raises:
        InputError: an unknown feature or level, or one beyond three standard deviations (``option_invalid``).
    """
    found = {}
    for name, value in asked.items():
        if name not in PERCEPTUAL_FEATURES:
            remedy = f"Take one of {', '.join(PERCEPTUAL_FEATURES)}"
            raise InputError(f"--steer {name}={value}", "names no perceptual feature", remedy, "option_invalid")
        try:
            found[name] = WORDS[value] if isinstance(value, str) and value in WORDS else float(value)
        except ValueError:
            found[name] = math.nan
        if not abs(found[name]) <= PERCEPTUAL_LIMIT:
            remedy = f"Give less, normal, more or a number from {-PERCEPTUAL_LIMIT:.0f} to {PERCEPTUAL_LIMIT:.0f}"
            raise InputError(f"--steer {name}={value}", "has no such level", remedy, "option_invalid")
    return found


def load_curve(path: str | Path) -> Curve:
    """Read a curve: CSV with a column ``beat`` or ``fraction``, then a column of levels for each feature it steers.

    Raises:
        InputError: ``curve_unreadable``.
    """
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise ValueError("is too large for a curve")
        with Path(path).open(encoding="utf-8", newline="") as file:
            header, *lines = ([cell.strip() for cell in row] for row in csv.reader(file) if row)
        axis, *features = header
        table = np.array([[float(cell) for cell in line] for line in lines]).reshape(len(lines), len(header))
        return _checked(axis, features, table)
    except (OSError, ValueError, csv.Error) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        remedy = "Give a CSV file with a first line such as fraction,articulation and lines such as 0.5,1"
        raise InputError(path, reason, remedy, "curve_unreadable") from error


def _checked(axis: str, features: list[str], table: np.ndarray) -> Curve:
    if axis not in AXES:
        raise ValueError(f"its first column is neither {' nor '.join(AXES)}")
    if not features or len(set(features)) < len(features) or not set(features) <= set(PERCEPTUAL_FEATURES):
        raise ValueError(f"its other columns are not features ({', '.join(PERCEPTUAL_FEATURES)})")
    if not len(table) or not np.isfinite(table).all() or (np.diff(table[:, 0]) <= 0).any():
        raise ValueError("its lines are not numbers with a rising first column")
    if np.abs(table[:, 1:]).max() > PERCEPTUAL_LIMIT:
        raise ValueError(f"it holds levels beyond {PERCEPTUAL_LIMIT:.0f} standard deviations")
    return Curve(axis, table[:, 0], dict(zip(features, table[:, 1:].T, strict=True)))


def perceptual_rows(
    onset_beat: np.ndarray,
    config: ExpressionConfig,
    *,
    asked: Mapping[str, float],
    curve: Curve | None = None,
    like: np.ndarray | None = None,
) -> np.ndarray | None:
    """The perceptual rows (n, 7) float32 of a render in standard deviations; None for a model that has none.

    Args:
        onset_beat: (n,) of the notes.
        config: the model's settings.
        asked: ``levels`` the whole piece long.
        curve: levels over the piece; go before ``asked``.
        like: (n, 7) what the features are otherwise, in standard deviations.
    """
    if config.denoiser.perceptual == "none":
        return None
    steered: dict[str, float | np.ndarray] = {**asked, **(curve.rows(onset_beat) if curve is not None else {})}
    rows = unknown_values(len(onset_beat)) if like is None else like.astype(np.float32)
    if steered and like is None and not config.training.feature_dropout:
        rows[:] = WORDS["normal"]
    for name, values in steered.items():
        rows[:, PERCEPTUAL_FEATURES.index(name)] = values
    return rows
