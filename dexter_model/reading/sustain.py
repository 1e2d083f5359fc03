"""Where notes end under the sustain pedal, by the rule of Magenta's data sets, from which generators learn.

While the pedal is down, a note sounds until the pedal goes up or its key is struck again, even if it is still held
then; of two notes that begin together on one key only one is left. Other than ``sounding``, which cuts a note at the
next onset of its key in any case, this rule leaves overlapping notes alone where no pedal is down.
"""

from __future__ import annotations

import numpy as np

PEDAL_DOWN = 64  # values of CC64 from here on


def sustained_ends(
    onset: np.ndarray,
    offset: np.ndarray,
    pitch: np.ndarray,
    pedal_times: np.ndarray,
    pedal_values: np.ndarray,
    last: float | None = None,
) -> np.ndarray:
    """When the n notes of one instrument end, its pedal considered.

    At one time pedals go down first, then up, then keys go down, then up. What the pedal still holds when nothing more
    happens ends then.

    Args:
        onset: (n,) s, in any order; among notes that begin together on one key the one that stands last is kept.
        offset: (n,) s, keys up.
        pitch: (n,) MIDI pitches.
        pedal_times: (k,) s, of CC64 in any order.
        pedal_values: (k,) 0-127.
        last: time of the last event of the whole file in s, if that is later than this instrument's.

    Returns:
        (n,) float64: ends in s, NaN for notes that are dropped.
    """
    down = np.asarray(pedal_values) >= PEDAL_DOWN
    order = np.lexsort((~down, pedal_times))
    times, down = np.asarray(pedal_times, float)[order], down[order]
    final = max([float(each.max()) for each in (onset, offset, times) if len(each)] + [last or 0.0])
    ups = np.append(times[~down], final)
    ends = np.where(
        _is_down(times, down, offset), ups[np.searchsorted(ups[:-1], offset, side="right")], np.asarray(offset, float)
    )
    struck = _struck_again(onset, pitch, _is_down(times, down, onset))
    ends = np.minimum(ends, struck)
    return np.where(struck <= onset, np.nan, ends)


def _is_down(times: np.ndarray, down: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Whether the pedal is down after all that is done to it up to and at each of these times."""
    return np.append(False, down)[np.searchsorted(times, at, side="right")]


def _struck_again(onset: np.ndarray, pitch: np.ndarray, pedal: np.ndarray) -> np.ndarray:
    """(n,) when the key of each note is next struck with the pedal down; infinite when it is not."""
    order = np.lexsort((onset, pitch))  # stable: notes that begin together stay in their order
    key, time = np.asarray(pitch)[order], np.where(pedal, onset, np.inf)[order]
    candidates = np.flatnonzero(np.isfinite(time))
    following = np.searchsorted(candidates, np.arange(len(order)), side="right")
    found = np.append(candidates, 0)[following]
    again = np.full(len(order), np.inf)
    same = (following < len(candidates)) & (key[found] == key) if len(order) else np.zeros(0, bool)
    again[order[same]] = time[found[same]]
    return again
