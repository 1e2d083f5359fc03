"""How tokens become a network's inputs and labels: an event at a time, or a note at a time.

A token is a row of numbers, one for each thing that is predicted: a single event id, or the six numbers of a note
(onset since the last in steps, div and mod 77; pitch; bin of velocity less 1; duration in steps less 1, div and mod
40). Either way the input vector is a sum of rows of a table, so that a network gathers instead of multiplying.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dexter_model.performance_rnn.config import NetworkConfig
from dexter_model.performance_rnn.events import STEP_NOTE, events_of_notes
from dexter_model.performance_rnn.vocabulary import (
    DEFAULT_EVENT,
    OFF,
    ON,
    SHIFT,
    VELOCITY,
    bin_velocity,
    classes,
    event_steps,
    velocity_bin,
)

SHIFTS, DURATIONS = (13, 77), (25, 40)  # factors of 0-1000 steps (1001 numbers) and 1-1000 steps
PITCH = 2  # column of a note's pitch
_LONGEST = 1000


def heads(config: NetworkConfig) -> tuple[int, ...]:
    """Classes of each number of a token."""
    if config.encoding == "notes":
        return (*SHIFTS, 128, config.velocity_bins, *DURATIONS)
    return (classes(config.velocity_bins),)


def input_width(config: NetworkConfig) -> int:
    """Numbers of an input: those that steer, then the last token's."""
    return config.controls + token_table(config).shape[1]


def default_token(config: NetworkConfig) -> np.ndarray:
    """The token that generation without a primer begins with, and that metrics call no event."""
    return np.array([0, 0, 60, 0, 0, 0] if config.encoding == "notes" else [DEFAULT_EVENT], np.uint16)


def tokens_of_notes(notes: np.ndarray, config: NetworkConfig) -> np.ndarray | None:
    """Tokens (N, heads) uint16 of notes in their order (``events.step_notes``).

    None where notes cannot be told: more than 10 s apart, or longer, in the encoding of notes.
    """
    if config.encoding != "notes":
        return events_of_notes(notes, config.velocity_bins)[:, None]
    shift, duration = np.diff(notes["onset"], prepend=0), notes["offset"] - notes["onset"] - 1
    if (shift > _LONGEST).any() or (duration >= _LONGEST).any():
        return None
    loud = velocity_bin(notes["velocity"], config.velocity_bins) - 1
    columns = (*divmod(shift, SHIFTS[1]), notes["pitch"], loud, *divmod(duration, DURATIONS[1]))
    return np.column_stack(columns).astype(np.uint16)


def notes_of_tuples(tokens: np.ndarray, velocity_bins: int) -> np.ndarray:
    """STEP_NOTE of the six numbers a note (N, 6)."""
    tokens = np.asarray(tokens, np.int64)
    notes = np.empty(len(tokens), STEP_NOTE)
    notes["onset"] = np.cumsum(token_steps(tokens))
    notes["offset"] = notes["onset"] + DURATIONS[1] * tokens[:, 4] + tokens[:, 5] + 1
    notes["pitch"], notes["velocity"] = tokens[:, PITCH], bin_velocity(tokens[:, 3] + 1, velocity_bins)
    return notes


def token_steps(tokens: np.ndarray) -> np.ndarray:
    """Steps (...,) that pass at each token (..., heads): at a note, those before it."""
    if tokens.shape[-1] == 1:
        return event_steps(tokens[..., 0])
    return tuple_shift(tokens.astype(np.int64))


def tuple_shift(tokens: Any) -> Any:
    """Steps (...,) before notes (..., 6), of numpy or torch."""
    return SHIFTS[1] * tokens[..., 0] + tokens[..., 1]


def token_table(config: NetworkConfig) -> np.ndarray:
    """Rows (sum of heads, width) float64 that sum to a token's part of the input, a row for each number's value."""
    if config.encoding == "modulo":
        return _modulo_table(config.velocity_bins)
    return np.eye(sum(heads(config)))


def _modulo_table(velocity_bins: int) -> np.ndarray:
    """Events as places on circles: of octaves (12 of them), pitch classes, shifts and velocities."""
    table = np.zeros((classes(velocity_bins), 16 if velocity_bins else 13))
    for first, slot in ((ON, 0), (OFF, 5)):
        pitch = np.arange(128)
        table[first : first + 128, slot] = 1.0
        table[first : first + 128, slot + 1 : slot + 3] = _on_circle(pitch, 144)
        table[first : first + 128, slot + 3 : slot + 5] = _on_circle(pitch % 12, 12)
    for first, slot, size in ((SHIFT, 10, VELOCITY - SHIFT), (VELOCITY, 13, velocity_bins)):
        table[first : first + size, slot : slot + 1] = 1.0
        if size:
            table[first : first + size, slot + 1 : slot + 3] = _on_circle(np.arange(size), size)
    return table


def _on_circle(place: np.ndarray, places: int) -> np.ndarray:
    angle = 2 * np.pi * place / places
    return np.column_stack([np.cos(angle), np.sin(angle)])
