"""The deadpan performance: exactly what is written and nothing else, the reference every performance is above."""

from __future__ import annotations

import numpy as np

VELOCITY = 64


def perform(notes: np.ndarray, bpm: float) -> np.ndarray:
    """Play a score at constant tempo and loudness, without pedal.

    Args:
        notes: (n,) SCORE_NOTE.
        bpm: beats (of the metre's denominator) a minute.

    Returns:
        (n, 5) float32 performance codec.
    """
    return np.tile(np.array([60 / bpm, VELOCITY / 127, 0, 0, 0], np.float32), (len(notes), 1))
