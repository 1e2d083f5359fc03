"""Performances as training sees them: played a little faster and slower, cut every 30 s, set on the grid, as tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np

from dexter_model.performance_rnn.config import NetworkConfig
from dexter_model.performance_rnn.encodings import tokens_of_notes
from dexter_model.performance_rnn.events import step_notes

STRETCHES = (0.95, 0.975, 1.0, 1.025, 1.05)
SEMITONES = (-3, -2, -1, 0, 1, 2, 3)
EXCERPT_SECONDS = 30.0
DRUMS = 9  # the channel


def sounding(notes: np.ndarray) -> np.ndarray:
    """Those of a performance's notes (RECORDED_NOTE) that are played on keys and not dropped by the pedal's rule."""
    return notes[~np.isnan(notes["sustained_sec"]) & (notes["channel"] != DRUMS)]


def excerpts(notes: np.ndarray, config: NetworkConfig, stretch: float, discarded: Counter[str]) -> Iterator[np.ndarray]:
    """Token sequences (N, heads) of a performance's excerpts of 30 s, their silence at the beginning included.

    A note belongs to the excerpt it begins in and ends with it. Excerpts of several instruments and, in the encoding of
    notes, those with times that cannot be told are left out.

    Args:
        notes: (n,) RECORDED_NOTE; they end with the pedal.
        config: how tokens tell notes.
        stretch: factor on all times.
        discarded: counts what is left out, by reason.
    """
    notes = sounding(notes)
    onset, end = notes["onset_sec"] * stretch, notes["sustained_sec"] * stretch
    borders = np.arange(0.0, end.max(initial=0.0), EXCERPT_SECONDS)
    part = np.searchsorted(borders, onset, side="right") - 1
    for index in np.unique(part):
        here = part == index
        if len(np.unique(notes["program"][here])) > 1:
            discarded["more than one program"] += 1
            continue
        begins, ends = onset[here] - borders[index], np.minimum(end[here] - borders[index], EXCERPT_SECONDS)
        tokens = tokens_of_notes(step_notes(begins, ends, notes["pitch"][here], notes["velocity"][here]), config)
        if tokens is None:
            discarded["notes too long or too far apart"] += 1
        else:
            yield tokens
