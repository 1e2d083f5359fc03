"""Perceptual features over time: a row of seven for each 15 s window, where they are known, and who says so.

Windows overlap and notes lie anywhere between them, so there are three ways to give a note its features. ``centred``
(interpolated between window centres) is the one to use; ``dexter`` and ``causal`` repeat the original's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dexter_model.notes import PERCEPTUAL_FEATURES

WINDOW = 15.0  # s
HOP = 5.0  # s
MODES = ("centred", "causal", "dexter")


@dataclass(frozen=True, eq=False)
class PerceptualFeatures:
    """The perceptual features of one performance in M windows.

    Attributes:
        times: (M,) float64 window centres in s, rising.
        values: (M, 7) float32, columns as ``PERCEPTUAL_FEATURES``, NaN where they are not known.
        reference: (M, 7) float32 the same features of the deadpan score at equal mean tempo, at the same score
            positions; NaN where they are not known, everywhere when they do not come from the estimator.
        mask: (M,) whether the values are known.
        source: ``cep_csv``, ``cnn:`` and the first 12 digits of the checkpoint's sha-256 (for played performances ``+``
            and those of the soundfont's), ``estimate:symbolic-v1`` or ``none``.
        window: s, how long the windows are.
    """

    times: np.ndarray
    values: np.ndarray
    reference: np.ndarray
    mask: np.ndarray
    source: str
    window: float = WINDOW

    def per_note(self, onset_sec: np.ndarray, mode: str = "centred") -> np.ndarray:
        """Features (n, 7) float32 of notes that begin at these times (n,); NaN where they are not known.

        ``centred``: see ``at_onsets``. ``causal``: the last window that had ended at the note's onset, the first window
        for notes before that. ``dexter``: likewise, but notes before the end of the first window get the last window of
        the file, as in the original (a fault of it).
        """
        if mode == "centred":
            return at_onsets(self.times, self.values, onset_sec)
        if mode not in MODES:
            raise ValueError(f"{mode!r} is none of {', '.join(MODES)}")
        if not len(self.times):
            return at_onsets(self.times, self.values, onset_sec)
        frame = np.searchsorted(self.times + self.window / 2, onset_sec, side="right") - 1
        return self.values[frame if mode == "dexter" else np.maximum(frame, 0)]

    def delta_per_note(self, onset_sec: np.ndarray) -> np.ndarray:
        """Features less those of the deadpan score (n, 7), as ``centred``; NaN where either is not known."""
        return at_onsets(self.times, self.values - self.reference, onset_sec)

    def shifted(self, seconds: float) -> PerceptualFeatures:
        """The same with all times later by this much."""
        return PerceptualFeatures(
            self.times + seconds, self.values, self.reference, self.mask, self.source, self.window
        )


def nothing_known() -> PerceptualFeatures:
    """Features of a performance of which none are known: no window, every note NaN."""
    return PerceptualFeatures(np.zeros(0), unknown_values(0), unknown_values(0), np.zeros(0, bool), "none")


def unknown_values(*shape: int) -> np.ndarray:
    """Values (..., 7) float32 of windows or notes about which nothing is known: NaN."""
    return np.full((*shape, len(PERCEPTUAL_FEATURES)), np.nan, np.float32)


def at_onsets(times: np.ndarray, values: np.ndarray, onset_sec: np.ndarray) -> np.ndarray:
    """Values (n, 7) float32 at onsets (n,): linear between the centres of known windows, level outside them.

    Args:
        times: (M,) window centres in s, rising.
        values: (M, 7), a row with a NaN is not known.
        onset_sec: (n,) s, in any order; one further than a window's length from every known centre gets NaN.
    """
    known = np.isfinite(values).all(axis=1)
    notes = unknown_values(len(onset_sec))
    if not known.any():
        return notes
    centres = times[known]
    nearest = centres[np.searchsorted((centres[1:] + centres[:-1]) / 2, onset_sec)]
    near = np.abs(onset_sec - nearest) <= WINDOW
    for column, series in enumerate(values[known].T):
        notes[near, column] = np.interp(onset_sec[near], centres, series)
    return notes
