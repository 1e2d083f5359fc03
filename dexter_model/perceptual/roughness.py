"""Terms of dissonance: the roughness of the partials that sound together (Plomp & Levelt 1965; Sethares 1993)."""

from __future__ import annotations

import functools

import numpy as np

from dexter_model.perceptual.events import Events
from dexter_model.perceptual.windows import Windows, means, ratio
from dexter_model.ragged import members

NOTES = 6  # the loudest that are heard at a time
PARTIALS = 6
ROLL_OFF = 0.88  # from a partial's amplitude to the next one's
AFTER = 0.030  # s after an event at which it is listened to
MEMORY = 6.0  # s after which a note that sounds on is not heard any more
DECAY = 1.5  # s
BLOCK = 4096  # events whose notes are held at a time
CANDIDATES = 256  # notes back from an event; nobody plays more in 6 s, and a file that does must not cost the more


def roughness_terms(events: Events, windows: Windows) -> dict[str, np.ndarray]:
    """``dis``, the mean roughness of the window's events over their amplitudes, and ``dn``, over the root of their
    number of notes too, (M,) each."""
    now = events.last_onset + AFTER
    blocks = [_relative(*_sounding(events, now[i : i + BLOCK])) for i in range(0, len(now), BLOCK)]
    dis, dn = np.concatenate(blocks, axis=1)
    low, high = windows.spans(events.onset)
    return {"dis": means(dis, low, high), "dn": means(dn, low, high)}


def roughness(pitch: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Roughness (E,) of chords: summed over all pairs of partials, those of one note included.

    Args:
        pitch: (E, K) MIDI pitches.
        amplitude: (E, K) of the notes' fundamentals, 0 where there is none.
    """
    partial = amplitude[:, :, None] * _roll_off()
    total = (amplitude * _within()[pitch]).sum(axis=1)
    for i in range(pitch.shape[1]):
        for j in range(i):
            weaker = np.minimum(partial[:, i, :, None], partial[:, j, None, :])
            total += (weaker * _between()[pitch[:, i], pitch[:, j]]).sum(axis=(1, 2))
    return total


def total_amplitude(amplitude: np.ndarray) -> np.ndarray:
    """Summed amplitude (E,) of all partials of chords (E, K)."""
    return amplitude.sum(axis=1) * _roll_off().sum()


def _relative(pitch: np.ndarray, amplitude: np.ndarray) -> np.ndarray:
    """Roughness over amplitude, and that over the root of the number of notes (2, E); NaN where nothing sounds."""
    dis = ratio(roughness(pitch, amplitude), total_amplitude(amplitude))
    return np.stack([dis, dis / np.sqrt(np.maximum((amplitude > 0).sum(axis=1), 1))])


def _sounding(events: Events, now: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Pitches and amplitudes (E, 6) of the loudest notes that sound at these times (E,), amplitude 0 for none."""
    notes = events.notes
    onset, end = notes["onset_sec"], notes["onset_sec"] + notes["duration_sec"]
    high = np.searchsorted(onset, now, side="right")
    low = np.maximum(np.searchsorted(onset, now - MEMORY), high - CANDIDATES)
    event, note = members(low, high)
    sounds = end[note] > now[event]
    event, note = event[sounds], note[sounds]
    loud = (notes["velocity"][note] / 127) ** 2 * np.exp((onset[note] - now[event]) / DECAY)
    order = np.lexsort((notes["pitch"][note], -loud, event))
    event, note, loud = event[order], note[order], loud[order]
    rank = np.arange(len(event)) - np.searchsorted(event, event)
    kept = rank < NOTES
    pitch = np.zeros((len(now), NOTES), int)
    amplitude = np.zeros((len(now), NOTES))
    pitch[event[kept], rank[kept]] = notes["pitch"][note[kept]]
    amplitude[event[kept], rank[kept]] = loud[kept]
    return pitch, amplitude


def _roll_off() -> np.ndarray:
    return ROLL_OFF ** np.arange(PARTIALS)


@functools.cache
def _between() -> np.ndarray:
    """Roughness (128, 128, 6, 6) of two partials of amplitude 1: pitch, other pitch, partial, other partial."""
    frequency = 440 * np.exp2((np.arange(128) - 69) / 12)[:, None] * np.arange(1, PARTIALS + 1)
    one, other = frequency[:, None, :, None], frequency[None, :, None, :]
    distance = np.abs(one - other) * 0.24 / (0.0207 * np.minimum(one, other) + 18.96)
    return 5 * (np.exp(-3.51 * distance) - np.exp(-5.75 * distance))


@functools.cache
def _within() -> np.ndarray:
    """Roughness (128,) of a note of amplitude 1 by itself."""
    weaker = np.minimum.outer(_roll_off(), _roll_off())
    own = _between()[np.arange(128), np.arange(128)]
    return (np.triu(weaker, 1) * own).sum(axis=(1, 2))
