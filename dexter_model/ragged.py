"""Ragged arrays: ranges of different lengths laid end to end, as index arithmetic without a loop."""

from __future__ import annotations

import numpy as np


def members(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Owner and item of every item in the index ranges ``low`` to ``high`` (M,), range after range.

    A range that ends before it begins holds nothing.
    """
    size = np.maximum(high - low, 0)
    owner = np.repeat(np.arange(len(low)), size)
    return owner, np.arange(size.sum()) - np.repeat(np.cumsum(size) - size, size) + low[owner]
