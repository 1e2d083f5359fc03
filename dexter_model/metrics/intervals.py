"""Confidence intervals over pieces or works: what is drawn is the piece (or its work), since performances of one piece
are not independent, nor are the movements that two corpora have of one work.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Mapping
from typing import Any, NamedTuple

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


def mean_over_units(
    value_by_key: Mapping[Any, float], unit: Mapping[Any, str] | None = None, seed: int = 0, *, level: float = 0.95
) -> Interval:
    """Mean over units with its bootstrap interval.

    Args:
        value_by_key: a figure a piece; NaN is left out.
        unit: what is drawn, for example the work of each piece; pieces of one unit are averaged first. By default each
            key is a unit of its own.
        seed: of the draws.
        level: of the interval.
    """
    units: dict[Hashable, list[float]] = defaultdict(list)
    for key in sorted(value_by_key, key=repr):
        if math.isfinite(value_by_key[key]):
            units[key if unit is None else unit[key]].append(value_by_key[key])
    return bootstrap_mean(np.array([np.mean(values) for values in units.values()]), seed=seed, level=level)


def paired_difference(
    a_by_unit: Mapping[Any, float],
    b_by_unit: Mapping[Any, float],
    unit: Mapping[Any, str] | None = None,
    seed: int = 0,
    *,
    level: float = 0.95,
) -> Interval:
    """Mean of a - b with its paired bootstrap interval; what only one side has, or has as NaN, is left out.

    Args:
        a_by_unit: one system's figure a piece.
        b_by_unit: the other's.
        unit: of each piece, as in ``mean_over_units``.
        seed: of the draws.
        level: of the interval.
    """
    differences = {key: a_by_unit[key] - b_by_unit[key] for key in a_by_unit.keys() & b_by_unit.keys()}
    return mean_over_units(differences, unit, seed, level=level)
