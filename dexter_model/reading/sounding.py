"""From keys and pedal to a performance: how long each note sounds.

The definition is that of partitura 1.9.0's performance note array, so that codecs agree with those made by it: a note
whose key goes up while the sustain pedal is down sounds until the pedal's next change, but not beyond the next onset of
the same pitch. Times are rounded to float32 as there (0.03 ms at 500 s).
"""

from __future__ import annotations

import numpy as np

from dexter_model.notes import PERFORMED_NOTE, Performance

PEDAL_THRESHOLD = 64  # down above this CC64 value, as in partitura: 64 itself is up
MAX_SECONDS = 24 * 3600


def performance_of_keys(
    note_id: np.ndarray,
    key_down: np.ndarray,
    key_up: np.ndarray,
    pitch: np.ndarray,
    velocity: np.ndarray,
    track: np.ndarray | int,
    channel: np.ndarray | int,
    pedal: np.ndarray,
) -> Performance:
    """A performance of one instrument from its keys (times in s, float64) and CC64 events ``pedal`` (k, 2).

    Raises:
        ValueError: a note ends before it begins, a time is absurd, or a pitch or velocity is none of MIDI's.
    """
    if len(key_down) and not (key_down.min() >= 0 and max(key_up.max(), pedal[:, 0].max(initial=0)) < MAX_SECONDS):
        raise ValueError(f"its times leave the range of 0 to {MAX_SECONDS // 3600} hours")
    if np.any(key_up < key_down):
        raise ValueError("a note ends before it begins")
    if np.any((pitch < 0) | (pitch > 127) | (velocity < 0) | (velocity > 127)):
        raise ValueError("a pitch or velocity leaves the range of 0 to 127")
    notes = np.zeros(len(key_down), PERFORMED_NOTE)
    notes["onset_sec"] = np.float32(key_down)
    notes["duration_sec"] = sounding_ends(key_down, key_up, pitch, pedal) - key_down
    notes["keydown_sec"] = key_up - key_down
    notes["pitch"] = pitch
    notes["velocity"] = velocity
    notes["track"] = track
    notes["channel"] = channel
    return Performance(note_id, notes, pedal[np.argsort(pedal[:, 0], kind="stable")])


def sounding_ends(key_down: np.ndarray, key_up: np.ndarray, pitch: np.ndarray, pedal: np.ndarray) -> np.ndarray:
    """Times (n,) at which notes stop sounding, never before their key goes up."""
    if len(pedal) == 0 or len(key_up) == 0:
        return key_up
    ends = _prolonged(key_up, pedal)
    order = np.lexsort((key_down, pitch))
    same_pitch = pitch[order[1:]] == pitch[order[:-1]]
    before_another, another = order[:-1][same_pitch], order[1:][same_pitch]
    ends[before_another] = np.minimum(ends[before_another], key_down[another])
    return np.maximum(ends, key_up)


def _prolonged(key_up: np.ndarray, pedal: np.ndarray) -> np.ndarray:
    pedal = pedal[np.argsort(pedal[:, 0], kind="stable")]
    down = pedal[:, 1] > PEDAL_THRESHOLD
    changes = np.flatnonzero(np.diff(down, prepend=False))
    times = pedal[changes, 0]
    # The pedal that is down when a key goes up went down at the last change before, strictly: a pedal pressed at the
    # very moment of the key-up comes too late. A pedal never lifted holds until a second after everything else.
    following = np.searchsorted(times, key_up)
    held = following % 2 == 1  # changes alternate, the first is downward
    times = np.append(times, max(pedal[-1, 0], key_up.max()) + 1)
    return np.where(held, times[following], key_up)
