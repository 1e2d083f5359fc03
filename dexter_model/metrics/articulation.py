"""Key overlap: how long a note of the melody is still held when the next one begins, relative to the time between them.

DExter's ``articulation_feature.kor`` (Zhang et al. 2024, arXiv 2406.14850), the key-overlap ratio of Repp (1995):
(off_i - on_j) / (on_j - on_i) from a note to its successor, above 0 legato, below 0 detached. Only the voice of the
lowest number is looked at, and only notes that end where that voice goes on: which those are is written, so it is
prepared once a score (``transitions``); the times of any number of performances then need array operations alone.

Shapes: P performances, N notes, T transitions, K pairs of a note and a possible successor.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dexter_model.ragged import members

MAX_OVERLAP = 5.0


@dataclass(frozen=True, eq=False)
class Transitions:
    """Where the leading voice goes on without a rest.

    Attributes:
        note: (T,) rows of the notes that lead on.
        voice: (V,) rows of all notes of the voice, sorted by onset; ``starts`` the first of each of its onsets.
        here, there: (T,) which of the voice's onsets a note stands at, and which it leads to.
        successor: (K,) notes at the onset a note leads to, as positions in ``voice``; ``first`` (T,) where each note's
            begin.
        leap: (K,) their distance from it in semitones.
    """

    note: np.ndarray
    voice: np.ndarray
    starts: np.ndarray
    here: np.ndarray
    there: np.ndarray
    successor: np.ndarray
    first: np.ndarray
    leap: np.ndarray


def transitions(onset: np.ndarray, offset: np.ndarray, pitch: np.ndarray, voice: np.ndarray) -> Transitions:
    """The transitions of a score (N,), sorted by onset; onsets and offsets are compared exactly, in whatever unit."""
    rows = np.flatnonzero(voice == voice.min())
    onsets, starts, position = np.unique(onset[rows], return_index=True, return_inverse=True)
    target = np.searchsorted(onsets, offset[rows])
    inside = np.minimum(target, len(onsets) - 1)
    leads = np.flatnonzero((onsets[inside] == offset[rows]) & (inside > position))
    here, there = position[leads], target[leads]
    sizes = np.diff(starts, append=len(rows))[there]
    first = np.cumsum(sizes) - sizes
    lead, successor = members(starts[there], starts[there] + sizes)
    leap = np.abs(pitch[rows[successor]] - pitch[rows[leads[lead]]])
    return Transitions(rows[leads], rows, starts, here, there, successor, first, leap)


def key_overlap(
    onset_sec: np.ndarray, offset_sec: np.ndarray, counts: np.ndarray, transitions: Transitions
) -> np.ndarray:
    """Key-overlap ratio of each note to the pitch-nearest note of its voice at the next onset, at most 5.

    Args:
        onset_sec: (..., N) performed onsets.
        offset_sec: (..., N) performed offsets.
        counts: (..., N) the notes that count.
        transitions: of the score.

    Returns:
        (..., N); 0 where the successor is not played later, NaN where there is no transition.
    """
    out = np.full(counts.shape, np.nan)
    if not len(transitions.note):
        return out
    voice, played = transitions.voice, counts[..., transitions.voice]
    heard = np.cumsum(np.add.reduceat(played, transitions.starts, axis=-1, dtype=int) > 0, axis=-1)
    next_heard = heard[..., transitions.there - 1] == heard[..., transitions.here]  # nothing of the voice in between
    rank = transitions.leap * len(voice) + transitions.successor
    nearest = np.where(played[..., transitions.successor], rank, np.iinfo(int).max)
    nearest = np.minimum.reduceat(nearest, transitions.first, axis=-1)
    known = counts[..., transitions.note] & next_heard & (nearest < np.iinfo(int).max)
    after = np.take_along_axis(onset_sec, voice[nearest % len(voice)], axis=-1)
    overlap, between = offset_sec[..., transitions.note] - after, after - onset_sec[..., transitions.note]
    ratio = np.divide(overlap, between, out=np.zeros_like(overlap), where=between > 0)
    out[..., transitions.note] = np.where(known, np.minimum(ratio, MAX_OVERLAP), np.nan)
    return out
