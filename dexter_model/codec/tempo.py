"""Beat periods: seconds a beat, a value for each score onset, from the mean performed onset of the notes there.

The definition of Cancino-Chacon (2018, ch. 3) as released with partitura: mean onsets made monotonic, then a
zero-order hold. Everything is float64; the returned beat periods are those float32 can hold, since that is what is
stored and what decoding will add up.
"""

from __future__ import annotations

import numpy as np

ONSET_TOLERANCE = 1e-4  # beats; notes that close share an onset


def onset_groups(onset_beat: np.ndarray) -> np.ndarray:
    """Index (n,) of each note's score onset, counted from 0; the notes are sorted by onset."""
    return np.cumsum(np.diff(onset_beat, prepend=onset_beat[:1]) > ONSET_TOLERANCE)


def group_starts(groups: np.ndarray) -> np.ndarray:
    """First note (k,) of each group of ``onset_groups``."""
    return np.flatnonzero(np.diff(groups, prepend=-1))


def group_means(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean of the values (n,) of each group, float64."""
    return np.bincount(groups, values) / np.bincount(groups)


def beat_periods(
    score_onset: np.ndarray, score_offset: np.ndarray, onset: np.ndarray, offset: np.ndarray, groups: np.ndarray
) -> np.ndarray:
    """Beat period (k,) in s/beat of each score onset, from matched notes only.

    Args:
        score_onset: (n,) beats, sorted.
        score_offset: (n,) beats.
        onset: (n,) performed, s.
        offset: (n,) performed, s; later than every onset.
        groups: (n,) from ``onset_groups``.
    """
    last = score_offset.max()
    if last <= score_onset.max():  # only grace notes stand at the end
        last = score_onset.max() + 1
    u = np.append(group_means(score_onset, groups), last)
    t = np.append(group_means(onset, groups), offset.max())
    rises = np.diff(np.maximum.accumulate(t), prepend=-np.inf) > 0
    monotonic = np.interp(u, u[rises], t[rises])
    return (np.diff(monotonic) / np.diff(u)).astype(np.float32).astype(np.float64)


def equivalent_onsets(score_onset: np.ndarray, beat_period: np.ndarray) -> np.ndarray:
    """Time (k,) in s since the first of each score onset (k,) in beats, played at these beat periods."""
    return np.concatenate([[0.0], np.cumsum(beat_period[:-1] * np.diff(score_onset))])
