"""Performances as streams of events and back: on a grid of 10 ms, without beats, in a fixed order.

At one step keys go up before others go down, both in the order of their notes (by onset before it was set on the grid,
then pitch). Whatever ``vocabulary`` cannot tell is lost: velocities become the lowest of their bin, and notes that
overlap on one key end in the order in which they began.
"""

from __future__ import annotations

import numpy as np

from dexter_model.errors import InputError
from dexter_model.performance_rnn.vocabulary import (
    DEFAULT_EVENT,
    DEFAULT_VELOCITY,
    MAX_SHIFT,
    OFF,
    ON,
    SHIFT,
    STEPS_PER_SECOND,
    VELOCITY,
    bin_velocity,
    event_kind,
    event_steps,
    velocity_bin,
)

UNREADABLE = "performance_unreadable"
STEP_NOTE = np.dtype([("onset", "i8"), ("offset", "i8"), ("pitch", "i4"), ("velocity", "i4")])  # times in steps


def quantised(seconds: np.ndarray) -> np.ndarray:
    """Times in s on the grid of 10 ms, to the nearest step (halves up).

    Raises:
        InputError: a time is negative or no number (``performance_unreadable``).
    """
    seconds = np.asarray(seconds, np.float64)
    if not (np.isfinite(seconds) & (seconds >= 0)).all():
        raise InputError("notes", "a time is negative or no number", "Give performances from 0 s on", UNREADABLE)
    return np.floor(seconds * STEPS_PER_SECOND + 0.5).astype(np.int64)


def step_notes(onset: np.ndarray, end: np.ndarray, pitch: np.ndarray, velocity: np.ndarray) -> np.ndarray:
    """Notes on the grid in the order that events are told in: STEP_NOTE of n notes in s; none is shorter than a step.

    Raises:
        InputError: times, pitches or velocities out of range (``performance_unreadable``).
    """
    order = np.lexsort((pitch, onset))
    notes = np.empty(len(order), STEP_NOTE)
    for name, values in (("onset", quantised(onset)), ("offset", quantised(end))):
        notes[name] = values[order]
    notes["pitch"], notes["velocity"] = np.asarray(pitch)[order], np.asarray(velocity)[order]
    low, values = np.array([0, 1]), np.column_stack([notes["pitch"], notes["velocity"]])
    if not ((values >= low) & (values < 128)).all():
        raise InputError("notes", "a pitch or velocity is none of MIDI's", "Give pitches and velocities", UNREADABLE)
    notes["offset"] = np.maximum(notes["offset"], notes["onset"] + 1)
    return notes


def events_of_notes(notes: np.ndarray, velocity_bins: int) -> np.ndarray:
    """The event stream (N,) uint16 of notes in their order (``step_notes``)."""
    is_off = np.repeat([[False, True]], len(notes), axis=0).ravel()
    step = np.column_stack([notes["onset"], notes["offset"]]).ravel()
    order = np.argsort(step, kind="stable")  # rows: on and off of the first note, of the second, ...
    step, is_off, index = step[order], is_off[order], order // 2
    key = notes["pitch"][index] + np.where(is_off, OFF, ON)
    gap = np.diff(step, prepend=0)
    shifts = -(-gap // MAX_SHIFT)
    bins, changed = _velocity_changes(notes["velocity"][index], ~is_off, velocity_bins)
    size = shifts + changed + 1
    ends = np.cumsum(size)
    events = np.full(ends[-1] if len(ends) else 0, DEFAULT_EVENT, np.uint16)
    events[(ends - changed - 2)[shifts > 0]] = ((gap - 1) % MAX_SHIFT + SHIFT)[shifts > 0]
    events[(ends - 2)[changed]] = (VELOCITY - 1 + bins)[changed]
    events[ends - 1] = key
    return events


def _velocity_changes(velocity: np.ndarray, is_on: np.ndarray, velocity_bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Bin of each event's note, and whether a VELOCITY goes before it: at onsets whose bin is not that of the last."""
    if velocity_bins == 0:
        return np.zeros_like(velocity), np.zeros(len(velocity), bool)
    bins = velocity_bin(velocity, velocity_bins)
    changed = np.zeros(len(velocity), bool)
    changed[is_on] = np.diff(bins[is_on], prepend=0) != 0
    return bins, changed


def notes_of_events(events: np.ndarray, velocity_bins: int, start: int = 0, longest: int | None = None) -> np.ndarray:
    """The notes that an event stream plays, (n,) STEP_NOTE by onset, then pitch.

    A key that goes up ends the note on it that began first; where none is, nothing happens. Notes of no length are
    none. What still sounds after the last event ends there.

    Args:
        events: (N,) ids.
        velocity_bins: of the vocabulary.
        start: step at which the stream begins.
        longest: steps that notes last at most.
    """
    events = np.asarray(events, np.int64)
    clock = start + np.cumsum(event_steps(events))
    kind, at = event_kind(events), np.arange(len(events))
    told = np.maximum.accumulate(np.where(kind == 3, at, -1)) if len(events) else at
    loud = np.where(told < 0, DEFAULT_VELOCITY, bin_velocity(events[told] - VELOCITY + 1, max(velocity_bins, 1)))
    on, off = _paired(np.where(kind == 1, events - OFF, events), kind)
    final = clock[-1] if len(clock) else start
    notes = np.empty(len(on), STEP_NOTE)
    notes["onset"], notes["pitch"], notes["velocity"] = clock[on], events[on], loud[on]
    notes["offset"] = np.where(off < 0, final, clock[off])
    notes = notes[notes["offset"] > notes["onset"]]
    if longest is not None:
        notes["offset"] = np.minimum(notes["offset"], notes["onset"] + longest)
    return notes[np.lexsort((notes["pitch"], notes["onset"]))]


def _paired(pitch: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Events that begin notes, and those that end them (-1: none does), first in, first out on each key."""
    keys = np.flatnonzero(kind <= 1)
    keys = keys[np.argsort(pitch[keys], kind="stable")]  # key after key, each in its order
    begins = kind[keys] == 0
    first = np.diff(pitch[keys], prepend=-1) != 0
    key = np.cumsum(first) - 1
    change = np.where(begins, 1, -1)
    before = (np.cumsum(change) - change)[first][key]  # what the sum over all keys is where a key's begins
    lift = key * (len(keys) + 1)  # sets the lowest of each key apart from those of the keys before
    lowest = np.minimum.accumulate(np.minimum(np.cumsum(change) - before, 0) - lift) + lift
    previous = np.where(first, 0, np.append(0, lowest[:-1])[: len(keys)])
    ends = ~begins & (lowest == previous)  # where nothing sounds, an end takes the sum lower than it ever was
    off = np.full(int(begins.sum()), -1)
    rank = np.arange(int(ends.sum())) - np.searchsorted(key[ends], key[ends])
    off[np.searchsorted(key[begins], key[ends]) + rank] = keys[ends]
    return keys[begins], off


def with_length(events: np.ndarray, steps: int) -> np.ndarray:
    """The stream cut or prolonged to last exactly so many steps.

    Too long: what comes after goes, and the shift that crosses the end is cut. Too short: the last shift is filled up,
    then others follow.
    """
    events = np.asarray(events, np.uint16)
    clock = np.cumsum(event_steps(events))
    lasts = int(clock[-1]) if len(clock) else 0
    if lasts > steps:
        kept = int(np.searchsorted(clock, steps, side="right"))
        rest = steps - int(clock[kept - 1] if kept else 0)
        return np.append(events[:kept], [SHIFT + rest - 1] * (rest > 0)).astype(np.uint16)
    missing = steps - lasts
    if missing and len(events) and SHIFT <= events[-1] < DEFAULT_EVENT:
        filled = min(missing, int(DEFAULT_EVENT - events[-1]))
        events = np.append(events[:-1], events[-1] + filled).astype(np.uint16)
        missing -= filled
    full, rest = divmod(missing, MAX_SHIFT)
    return np.append(events, [DEFAULT_EVENT] * full + [SHIFT + rest - 1] * (rest > 0)).astype(np.uint16)
