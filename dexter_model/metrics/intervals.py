"""Confidence intervals over pieces: what is drawn is the piece, since performances of one piece are not independent."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

RESAMPLES = 4000


class Interval(NamedTuple):
    """A mean with its interval; ``low`` and ``high`` are NaN where there are fewer than two values to draw from."""

    mean: float
    low: float
    high: float


def bootstrap_mean(values: np.ndarray, *, seed: int, level: float = 0.95, resamples: int = RESAMPLES) -> Interval:
    """Mean and percentile bootstrap interval (Efron 1979) of values (n,), one a piece; NaN values are left out.

    The result depends on the values and the seed only, not on the values' order.
    """
    values = np.sort(values[np.isfinite(values)])
    if not len(values):
        return Interval(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if len(values) < 2:
        return Interval(mean, math.nan, math.nan)
    drawn = np.random.default_rng(seed).integers(len(values), size=(resamples, len(values)))
    low, high = np.quantile(values[drawn].mean(axis=1), [(1 - level) / 2, (1 + level) / 2])
    return Interval(mean, float(low), float(high))
