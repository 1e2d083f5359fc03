"""Asynchrony of chords: how far apart notes written together are played, and whether the higher ones come first.

DExter's ``asynchrony_feature.delta`` and ``.pitch_cor`` (Zhang et al. 2024, arXiv 2406.14850). All functions broadcast
over leading axes. NaN where fewer than two notes of an onset are played, since the score then asks for no togetherness
(the original writes 0).

Shapes: P performances, N notes, U unique score onsets.
"""

from __future__ import annotations

import numpy as np

MAX_SPREAD = 1.0  # s


def spread(onset_sec: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Time in s between the first and the last note of each onset, at most 1.

    Args:
        onset_sec: (..., N) performed onsets.
        counts: (..., N) the notes that count.
        starts: (U,) first note of each onset.

    Returns:
        (..., U), NaN where fewer than two notes count.
    """
    last = np.maximum.reduceat(np.where(counts, onset_sec, -np.inf), starts, axis=-1)
    first = np.minimum.reduceat(np.where(counts, onset_sec, np.inf), starts, axis=-1)
    chord = np.add.reduceat(counts, starts, axis=-1, dtype=int) > 1
    return np.minimum(np.subtract(last, first, out=np.full(chord.shape, np.nan), where=chord), MAX_SPREAD)


def pitch_correlation(onset_sec: np.ndarray, pitch: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Minus the Pearson correlation of performed onset and pitch in each chord: 1 when the top note leads.

    Args:
        onset_sec: (..., N) performed onsets.
        pitch: (N,).
        counts: (..., N) the notes that count.
        starts: (U,) first note of each onset.

    Returns:
        (..., U); 0 where all notes of a chord have one pitch or one onset, NaN where fewer than two notes count.
    """
    group = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(pitch)))
    number = np.add.reduceat(counts, starts, axis=-1, dtype=float)

    def centred(values: np.ndarray) -> np.ndarray:
        total = np.add.reduceat(np.where(counts, values, 0.0), starts, axis=-1)
        return np.where(counts, values - (total / np.maximum(number, 1))[..., group], 0.0)

    time, height = centred(onset_sec.astype(float)), centred(np.broadcast_to(pitch.astype(float), counts.shape))
    product, times, heights = (
        np.add.reduceat(x, starts, axis=-1) for x in (time * height, time * time, height * height)
    )
    varies = (spread(onset_sec, counts, starts) > 0) & (heights > 0)
    out = np.where(number > 1, 0.0, np.nan)
    return np.divide(-product, np.sqrt(times * heights), out=out, where=varies)
