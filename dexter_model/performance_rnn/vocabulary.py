"""The events of Performance RNN as numbers: keys down and up, time that passes, and how hard keys are struck.

=========================  ============  =====================================
event                      id            meaning
=========================  ============  =====================================
NOTE_ON pitch 0-127        pitch         a key goes down, as hard as was said
NOTE_OFF pitch 0-127       128 + pitch   a key goes up
TIME_SHIFT n 1-100         255 + n       n steps of 10 ms pass
VELOCITY bin 1-bins        355 + bin     how hard keys are struck from here on
=========================  ============  =====================================
"""

from __future__ import annotations

import numpy as np

STEPS_PER_SECOND = 100
MAX_SHIFT = 100
ON, OFF, SHIFT, VELOCITY = 0, 128, 256, 356  # first id of each kind of event
KINDS = ("on", "off", "shift", "velocity")
DEFAULT_EVENT = SHIFT + MAX_SHIFT - 1  # a second passes: what generation without a primer begins with
DEFAULT_VELOCITY = 100  # of notes before any VELOCITY


def classes(velocity_bins: int) -> int:
    """Number of events: 356, and one more for each bin of velocities (0: velocities are not told)."""
    return VELOCITY + velocity_bins


def velocity_bin(velocity: np.ndarray, velocity_bins: int) -> np.ndarray:
    """Bins from 1 of MIDI velocities 1-127."""
    return (np.asarray(velocity, np.int64) - 1) // _bin_size(velocity_bins) + 1


def bin_velocity(velocity_bin: np.ndarray, velocity_bins: int) -> np.ndarray:
    """The lowest MIDI velocity of each bin."""
    return 1 + (np.asarray(velocity_bin, np.int64) - 1) * _bin_size(velocity_bins)


def event_kind(events: np.ndarray) -> np.ndarray:
    """0 NOTE_ON, 1 NOTE_OFF, 2 TIME_SHIFT, 3 VELOCITY of each event."""
    return np.searchsorted([OFF, SHIFT, VELOCITY], events, side="right")


def event_steps(events: np.ndarray) -> np.ndarray:
    """Steps of 10 ms that pass at each event."""
    events = np.asarray(events, np.int64)
    return np.where((events >= SHIFT) & (events < VELOCITY), events - SHIFT + 1, 0)


def _bin_size(velocity_bins: int) -> int:
    return -(-127 // velocity_bins)
