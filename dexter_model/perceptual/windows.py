"""Windows over a performance and what lies in each: all windows at once, as index ranges of sorted times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from dexter_model.perceptual.features import HOP, WINDOW


class Windows(NamedTuple):
    """``start`` (M,) in s, and ``seconds`` (M,) of each that hold music: 15, less in a shorter performance."""

    start: np.ndarray
    seconds: np.ndarray

    def spans(self, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """First index and end (M,) of the sorted times that each window holds."""
        return np.searchsorted(times, self.start), np.searchsorted(times, self.start + WINDOW)


def windows_over(first: float, last: float) -> Windows:
    """Every full window between the first and the last onset, 5 s apart; a single one when less than 15 s lie there."""
    return windows_at(first + HOP * np.arange(1 + max(0, int((last - first - WINDOW) // HOP))), last)


def windows_at(start: np.ndarray, last: float) -> Windows:
    """Windows at these starts (M,) of a performance whose last onset is given."""
    return Windows(start, np.clip(last - start, 0.0, WINDOW))


def sums(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number (M,) of the finite values in each index range; one that ends before it begins holds none."""
    finite = np.isfinite(values)
    columns = np.stack([np.where(finite, values, 0.0), finite])
    total = np.concatenate([np.zeros((2, 1)), np.cumsum(columns, axis=1)], axis=1)
    high = np.maximum(high, 0)
    inside = total[:, high] - total[:, np.minimum(low, high)]
    return inside[0], np.rint(inside[1])


def means(values: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Mean (M,) of the finite values in each index range, NaN where there are none."""
    return ratio(*sums(values, low, high))


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """A quotient, NaN where nothing is divided by."""
    return np.divide(numerator, denominator, out=np.full(np.shape(numerator), np.nan), where=denominator > 0)
