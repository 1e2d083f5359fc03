"""Terms of melody and articulation: how the upper line moves, stands out, and is connected."""

from __future__ import annotations

import numpy as np

from dexter_model.perceptual.events import Events
from dexter_model.perceptual.windows import Windows, means, ratio, sums

SHORTEST, LONGEST = 0.06, 1.5  # s from a note to the next that tell of articulation
STEP = 2  # semitones


def melody_terms(events: Events, windows: Windows) -> dict[str, np.ndarray]:
    """``step``, ``leap`` (log2(leap + 1)), ``sal`` and ``rate`` (log2) of each window, (M,)."""
    notes = events.notes
    low, high = windows.spans(notes["onset_sec"][events.melody])
    interval = np.abs(np.diff(notes["pitch"][events.melody]))
    leap = means(interval.astype(np.float64), low, high - 1)
    return {
        "step": means((interval <= STEP).astype(np.float64), low, high - 1),
        "leap": np.log2(leap + 1),
        "sal": _salience(events, windows),
        "rate": np.log2(np.maximum(ratio((high - low).astype(np.float64), windows.seconds), 1 / 64)),
    }


def articulation_terms(events: Events, windows: Windows) -> dict[str, np.ndarray]:
    """``art_key``, the mean gap between key-up and the next note's onset over the inter-onset interval, melody and bass
    (Repp 1995, key overlap), and ``art_snd``, of the melody's sounding durations, (M,) each."""
    melody = _gaps(events, events.melody, "keydown_sec", windows)
    bass = _gaps(events, events.bass, "keydown_sec", windows)
    sounding = _gaps(events, events.melody, "duration_sec", windows)
    return {"art_key": ratio(melody[0] + bass[0], melody[1] + bass[1]), "art_snd": ratio(*sounding)}


def _gaps(events: Events, line: np.ndarray, duration: str, windows: Windows) -> tuple[np.ndarray, np.ndarray]:
    """Sum and number (M,) of the silent shares between successive notes of a line, 0 (legato) to 1."""
    onset = events.notes["onset_sec"][line]
    interval = np.diff(onset)
    tells = (interval > SHORTEST) & (interval < LONGEST)
    played = events.notes[duration][line[:-1]] / np.where(tells, interval, 1.0)
    low, high = windows.spans(onset)
    return sums(np.where(tells, np.clip(1 - played, 0, 1), np.nan), low, high - 1)


def _salience(events: Events, windows: Windows) -> np.ndarray:
    """Mean velocity of the melody less that of all other notes, of 127."""
    velocity = events.notes["velocity"].astype(np.float64)
    leads = np.zeros(len(velocity), bool)
    leads[events.melody] = True
    low, high = windows.spans(events.notes["onset_sec"])
    lead, rest = (means(np.where(which, velocity, np.nan), low, high) for which in (leads, ~leads))
    return (lead - rest) / 127
