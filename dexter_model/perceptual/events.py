"""A performance as a listener hears it: chords instead of notes, and the melody and the bass that run through them.

A chord is what begins within 50 ms with no gap above 30 ms (the thresholds of mpteval's articulation measures).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dexter_model.notes import Performance

GAP = 0.030  # s between the notes of a chord
SPREAD = 0.050  # s from its first to its last
MELODY_GAP = 7  # semitones: what lies further below a melody note that is still held is accompaniment
HELD = 0.050  # s


@dataclass(frozen=True, eq=False)
class Events:
    """Notes (n) sorted by onset and pitch, and the chord events (E) they form.

    Attributes:
        notes: (n,) PERFORMED_NOTE.
        first: (E,) index of each event's first note.
        onset: (E,) s, of its first note.
        last_onset: (E,) s, of its last note.
        melody: (L,) index of the notes of the melody.
        bass: (E,) index of each event's lowest note.
    """

    notes: np.ndarray
    first: np.ndarray
    onset: np.ndarray
    last_onset: np.ndarray
    melody: np.ndarray
    bass: np.ndarray


def chord_events(performance: Performance) -> Events:
    """The events of a performance; the order of its rows does not matter. It holds a note at least."""
    rows = performance.notes
    order = np.lexsort((rows["keydown_sec"], rows["velocity"], rows["pitch"], rows["onset_sec"]))
    notes = rows[order]
    onset, pitch = notes["onset_sec"], notes["pitch"]
    first = _firsts(onset)
    last = np.append(first[1:], len(notes)) - 1
    event = np.repeat(np.arange(len(first)), last - first + 1)
    by_pitch = np.lexsort((pitch, event))  # events one after the other, each from its bass to its top
    return Events(notes, first, onset[first], onset[last], _melody(notes, by_pitch[last]), by_pitch[first])


def _firsts(onset: np.ndarray) -> np.ndarray:
    """Index (E,) of the first note of each chord."""
    gaps = np.append(np.flatnonzero(np.diff(onset) > GAP) + 1, len(onset))
    after_gap = gaps[np.searchsorted(gaps, np.arange(len(onset)), side="right")]
    following = np.minimum(after_gap, np.searchsorted(onset, onset + SPREAD, side="right")).tolist()
    firsts, note = [], 0
    while note < len(following):
        firsts.append(note)
        note = following[note]
    return np.array(firsts)


def _melody(notes: np.ndarray, tops: np.ndarray) -> np.ndarray:
    """Index (L,) of the melody's notes: the top ones, unless a melody key far above is held on.

    One pass: whether a note belongs to the melody depends on those before it.
    """
    onsets, pitches = notes["onset_sec"][tops].tolist(), notes["pitch"][tops].tolist()
    key_ups = (notes["onset_sec"] + notes["keydown_sec"])[tops].tolist()
    melody = []
    held: dict[int, float] = {}  # when melody keys that are down go up, by pitch
    for top, onset, pitch, key_up in zip(tops.tolist(), onsets, pitches, key_ups, strict=True):
        held = {other: up for other, up in held.items() if up >= onset + HELD}
        if max(held, default=pitch) - pitch <= MELODY_GAP:
            melody.append(top)
            held[pitch] = key_up
    return np.array(melody)
