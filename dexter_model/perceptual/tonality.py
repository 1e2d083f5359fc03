"""Terms of tonality: how clearly, how steadily and in which mode a window is in a key.

A window's pitch classes, weighted by duration and loudness, are correlated with profiles of the 24 keys. Krumhansl and
Kessler's (KK) are the listeners' ratings; Temperley's (CBMS) separate the modes better: a flat C major scale correlates
with the best major and minor key .94 and .58 with these, .76 and .71 with those.
"""

from __future__ import annotations

import numpy as np

from dexter_model.perceptual.events import Events
from dexter_model.perceptual.features import WINDOW
from dexter_model.perceptual.windows import Windows, ratio
from dexter_model.ragged import members

KK = np.array(  # major, minor; from the tonic
    [
        [6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88],
        [6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17],
    ]
)
CBMS = np.array(
    [
        [5, 2, 3.5, 2, 4.5, 4, 2, 4.5, 2, 3.5, 1.5, 4],
        [5, 2, 3.5, 4.5, 2, 4, 2, 4.5, 3.5, 2, 1.5, 4],
    ]
)
LONGEST = 2.0  # s for which a note counts at most
PARTS = 5  # sub-windows of 3 s


def tonality_terms(events: Events, windows: Windows) -> dict[str, np.ndarray]:
    """``clar``, ``gap``, ``cons``, ``min_C`` and ``min_K`` of each window, (M,)."""
    parts = _pitch_classes(events, windows)
    whole = parts.sum(axis=1)
    kk, cbms = key_correlations(whole, KK), key_correlations(whole, CBMS)
    ranked = np.sort(kk, axis=1)
    best = np.take_along_axis(key_correlations(parts, KK), kk.argmax(axis=1)[:, None, None], axis=2)[:, :, 0]
    heard = np.isfinite(best)
    return {
        "clar": ranked[:, -1],
        "gap": ranked[:, -1] - ranked[:, -2],
        "cons": ratio(np.where(heard, best, 0.0).sum(axis=1), heard.sum(axis=1)),
        "min_C": _mode_difference(cbms),
        "min_K": _mode_difference(kk),
    }


def key_correlations(pitch_classes: np.ndarray, profiles: np.ndarray) -> np.ndarray:
    """Pearson correlations (..., 24) of pitch-class weights (..., 12) with the major keys on C, C sharp, ..., then the
    minor ones; NaN where all weights are equal."""
    keys = np.stack([np.roll(profile, tonic) for profile in profiles for tonic in range(12)])
    return np.clip(_unit(pitch_classes) @ _unit(keys).T, -1, 1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    centred = vectors - vectors.mean(axis=-1, keepdims=True)
    norm = np.linalg.norm(centred, axis=-1, keepdims=True)
    return centred / np.where(norm > 1e-9, norm, np.nan)


def _mode_difference(correlations: np.ndarray) -> np.ndarray:
    """Best minor less best major key."""
    return correlations[:, 12:].max(axis=1) - correlations[:, :12].max(axis=1)


def _pitch_classes(events: Events, windows: Windows) -> np.ndarray:
    """Weights (M, 5, 12) of the pitch classes in the parts of each window."""
    notes = events.notes
    weight = np.minimum(notes["duration_sec"], LONGEST) * (notes["velocity"] / 127)
    window, note = members(*windows.spans(notes["onset_sec"]))
    since = notes["onset_sec"][note] - windows.start[window]
    part = np.clip((since * PARTS / WINDOW).astype(int), 0, PARTS - 1)
    cell = (window * PARTS + part) * 12 + notes["pitch"][note] % 12
    return np.bincount(cell, weight[note], len(windows.start) * PARTS * 12).reshape(-1, PARTS, 12)
