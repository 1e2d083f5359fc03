"""Notes and events of the specification's worked examples."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# (pitch, velocity, start s, end s)
PIECE = [
    *[(36, 100, 0, 2), (40, 55, 2.1, 5), (44, 80, 3.6, 5), (41, 45, 5.1, 8), (64, 100, 6.6, 10), (55, 120, 8.1, 11)],
    *[(39, 110, 9.6, 9.7), (53, 99, 11.1, 14.1), (51, 40, 12.6, 13), (55, 100, 14.1, 15), (54, 90, 15.6, 17)],
    (60, 100, 17.1, 18),
]
CHORDS = [(60, 100, 0, 4), (64, 100, 0, 3), (67, 127, 1, 2)]
CONTROLLED = [
    *[(60, 100, 0, 0.5), (64, 100, 0, 0.5), (67, 100, 0.25, 0.75), (72, 100, 1, 3.5), (76, 100, 3.2, 4)],
]


def columns(notes: Sequence[Sequence[float]]) -> tuple[np.ndarray, ...]:
    """Onset, end (s), pitch, velocity."""
    pitch, velocity, onset, end = np.array(notes, float).reshape(-1, 4).T
    return onset, end, pitch.astype(int), velocity.astype(int)
