"""Windows of N notes: how many a piece has, where they begin, and arrays cut into them. N is chosen when reading."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

Lengths = TypeVar("Lengths", int, np.ndarray)


def window_count(length: Lengths, window: int, hop: int | None = None) -> Lengths:
    """How many windows cover so many notes; the last one may reach beyond the end.

    Args:
        length: notes, a number or an array of them, at least 1.
        window: notes in a window.
        hop: notes from the start of a window to that of the next, at most ``window``, which is the default.
    """
    beyond = np.maximum(length - window, 0)
    return 1 + -(-beyond // (hop or window))


def cut(block: np.ndarray, window: int, hop: int | None = None) -> np.ndarray:
    """Cut (P, n, ...) into windows (P, S, N, ...); rows past the end are zero (False in a mask)."""
    step = hop or window
    starts = step * np.arange(window_count(block.shape[1], window, hop))
    padding = [(0, 0)] * block.ndim
    padding[1] = (0, int(starts[-1]) + window - block.shape[1])
    return np.pad(block, padding)[:, starts[:, None] + np.arange(window)]
