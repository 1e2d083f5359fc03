"""How two series are compared: correlation, deviation, Kullback-Leibler divergence, and mean absolute error.

The definitions are DExter's (Zhang et al. 2024, arXiv 2406.14850), with two differences in what is reported, none in
what is computed. A figure that does not exist is NaN here (the original writes -1 or a number made of rounding noise):
the correlation of a constant, the density of a constant. And a relative deviation is told together with its mean
absolute value, since signed errors cancel, and with the share of its denominators near zero, since those alone can push
it to its cap.

Series are (n,) with NaN where an entry does not count; entries count where both series have one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

DEVIATION_CAP = 5.0
KL_POINTS = 300
NEAR_ZERO = 0.05  # of the denominators' root mean square: a ratio over less than this says nothing
CONSTANT_PREDICTION = "constant prediction"  # why a figure of it is undefined
_CONSTANT = 1e-6  # a standard deviation below this, or this share of the largest value, is rounding noise
_BLOCK = 2_000_000  # kernel values computed at once (16 MB)


class Deviation(NamedTuple):
    """Mean relative error, signed and absolute (both capped at 5), and the share of denominators near zero."""

    signed: float
    absolute: float
    near_zero: float


def both(prediction: np.ndarray, reference: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The entries that both series have."""
    known = np.isfinite(prediction) & np.isfinite(reference)
    return prediction[known], reference[known]


def is_constant(values: np.ndarray) -> bool:
    """Whether a series has no spread, so that its correlation and its density are undefined."""
    return len(values) < 2 or float(np.std(values)) <= _CONSTANT * max(float(np.abs(values).max()), 1.0)


def correlation(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Pearson correlation; NaN when either series is constant or has fewer than two entries."""
    x, y = both(prediction, reference)
    if is_constant(x) or is_constant(y):
        return math.nan
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / math.sqrt((x @ x) * (y @ y)))


def why_undefined(prediction: np.ndarray, reference: np.ndarray) -> str:
    """Why a correlation or a density ratio of two series does not exist; empty when it does."""
    x, y = both(prediction, reference)
    if len(x) < 2:
        return "fewer than two notes"
    if is_constant(x):
        return CONSTANT_PREDICTION
    return "constant reference" if is_constant(y) else ""


def judged_correlation(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Correlation where performances are judged by it: a constant prediction has 0, so that a flat one looks worse."""
    flat = why_undefined(prediction, reference) == CONSTANT_PREDICTION
    return 0.0 if flat else correlation(prediction, reference)


def mean_absolute_error(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Mean absolute difference in the unit of the series; NaN when nothing is left to compare."""
    x, y = both(prediction, reference)
    return float(np.abs(x - y).mean()) if len(x) else math.nan


def spread_ratio(prediction: np.ndarray, reference: np.ndarray) -> float:
    """Standard deviation of the prediction over that of the reference; NaN when the reference is constant."""
    x, y = both(prediction, reference)
    return math.nan if is_constant(y) else float(x.std() / y.std())


def deviation(prediction: np.ndarray, reference: np.ndarray, scale: np.ndarray | None = None) -> Deviation:
    """Relative deviation, mean((prediction - reference) / scale).

    Args:
        prediction: (n,).
        reference: (n,).
        scale: the denominators (n,): by default the reference itself; in the ground-truth space the standard deviation
            over the human performances, note by note. Entries over exactly zero are dropped.
    """
    scale = reference if scale is None else scale
    known = np.isfinite(prediction) & np.isfinite(reference) & np.isfinite(scale)
    error, divisor = (prediction - reference)[known], scale[known]
    if not divisor.any():
        return Deviation(math.nan, math.nan, 1.0 if len(divisor) else math.nan)
    near_zero = np.abs(divisor) < NEAR_ZERO * math.sqrt(float(np.mean(divisor**2)))
    ratio = error[divisor != 0] / divisor[divisor != 0]
    signed = float(np.clip(ratio.mean(), -DEVIATION_CAP, DEVIATION_CAP))
    return Deviation(signed, min(float(np.abs(ratio).mean()), DEVIATION_CAP), float(near_zero.mean()))


def bandwidth(values: np.ndarray) -> float:
    """Bandwidth of a Gaussian kernel density in one dimension by Scott's rule (Scott 1992): sigma n^(-1/5)."""
    return float(values.std(ddof=1)) * len(values) ** -0.2


def log_density(values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Log of the Gaussian kernel density of ``values`` at ``points``, up to a constant.

    In logarithms, so that a point far from every value counts as far as it is. Equal values (velocities, pedal) share
    one kernel. Most of an evaluation's time is spent here: the exponents are made in place.
    """
    kernels, weights = np.unique(values, return_counts=True)
    scale = math.sqrt(0.5) / bandwidth(values)
    kernels, points, weights = kernels * scale, points * scale, weights.astype(float)
    blocks = np.array_split(points, math.ceil(len(points) * len(kernels) / _BLOCK))
    return np.concatenate([_log_kernels(block, kernels, weights) for block in blocks])


def _log_kernels(points: np.ndarray, kernels: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Log of the weighted sum of exp(-(point - kernel)^2) over the kernels, ascending; the nearest is factored out."""
    above = np.minimum(np.searchsorted(kernels, points), len(kernels) - 1)
    nearest = np.minimum(np.abs(points - kernels[above]), np.abs(points - kernels[np.maximum(above - 1, 0)])) ** 2
    exponents = points[:, None] - kernels
    np.multiply(exponents, exponents, out=exponents)
    np.subtract(nearest[:, None], exponents, out=exponents)
    np.exp(exponents, out=exponents)
    log: np.ndarray = np.log(exponents @ weights) - nearest
    return log


def _log_sum(exponents: np.ndarray) -> float:
    """Log of the sum of exponentials."""
    largest = float(exponents.max())
    return largest + math.log(float(np.exp(exponents - largest).sum()))


def density_draws(values: np.ndarray, seed: int, count: int = KL_POINTS) -> np.ndarray:
    """Points drawn from the Gaussian kernel density of ``values``; the same for the same seed."""
    random = np.random.default_rng(seed)
    return random.choice(values, count) + random.normal(0.0, bandwidth(values), count)


def kl_at(prediction: np.ndarray, reference: np.ndarray, points: np.ndarray) -> float:
    """Sum of p log(p / q) over ``points``, both kernel densities re-normalised over these points.

    NaN where the reference's density at a point is zero in double precision, some 38 bandwidths from all its values:
    there the published figure is infinite.
    """
    log_p, log_q = log_density(prediction, points), log_density(reference, points)
    if not np.exp(log_q).all():
        return math.nan
    log_p, log_q = (x - _log_sum(x) for x in (log_p, log_q))
    return float(np.exp(log_p) @ (log_p - log_q))


def kl_divergence(prediction: np.ndarray, reference: np.ndarray, seed: int = 0) -> float:
    """Kullback-Leibler divergence of two value distributions at 300 points drawn from the prediction's density.

    As published: re-normalised over these points, so that a prediction much narrower than the reference comes out near
    zero. Read it beside the spread.

    Entries that either series lacks are left out of that series only: distributions need no pairs. NaN when either is
    constant, or where the reference has no density at a point.
    """
    p, q = (x[np.isfinite(x)] for x in (prediction.ravel(), reference.ravel()))
    if is_constant(p) or is_constant(q):
        return math.nan
    return kl_at(p, q, density_draws(p, seed))
