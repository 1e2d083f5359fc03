"""What is compared: a performance as series, note by note and onset by onset.

A codec goes in, named series come out, NaN where a note does not count (not named, not played). All functions broadcast
over leading axes, so the humans of a piece are read in one call. Tempo and velocity curves have one value per unique
score onset (tempo: 60 / mean beat period, clipped to 15..480 per minute), the other series one per score note. The
features that need the score's notes and markings are in ``metrics.features``.

Shapes: P performances, N score notes, U unique onsets.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TEMPO_LIMITS = (15.0, 480.0)  # beats per minute


@dataclass(frozen=True)
class Feature:
    """A series that performances are compared by: its name in tables, what people call it, and its unit."""

    name: str
    label: str
    unit: str


FEATURES = (
    Feature("tempo_curve", "Tempo curve", "beats/min"),
    Feature("velocity_curve", "Velocity curve", "MIDI velocity"),
    Feature("log_beat_period", "Log beat period", "log2 s"),
    Feature("velocity", "Velocity", "MIDI velocity"),
    Feature("timing", "Timing", "s"),
    Feature("articulation", "Articulation", "log2 ratio"),
    Feature("articulation_keydown", "Articulation (key-down)", "log2 ratio"),
    Feature("pedal", "Pedal", "CC64"),
    Feature("log_ioi", "Log inter-onset interval ratio", "log2 s/beat"),
    Feature("kor", "Key overlap ratio", ""),
    Feature("kor_keydown", "Key overlap ratio (key-down)", ""),
    Feature("delta", "Chord spread", "s"),
    Feature("pitch_cor", "Chord order by pitch", "r"),
    Feature("agreement", "Agreement with markings", "tau"),
    Feature("consistency_std", "Spread of a marking", "MIDI velocity"),
    Feature("ramp_cor", "Following of hairpins", "r"),
    Feature("tempo_cor", "Tempo and loudness", "r"),
    Feature("duration", "Performed duration", "s"),  # these three only as distributions
    Feature("duration_keydown", "Performed duration (key-down)", "s"),
    Feature("ioi", "Inter-onset interval", "s"),
)


def onset_starts(onset_div: np.ndarray) -> np.ndarray:
    """Rows (U,) where a new score onset begins, for score onsets (N,) in divs, ascending."""
    return np.flatnonzero(np.diff(onset_div, prepend=onset_div[:1] - 1))


def mean_per_onset(values: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Mean of ``values`` (..., N) over each onset's notes that count: (..., U), NaN where none does."""
    total = np.add.reduceat(np.where(counts, values, 0.0), starts, axis=-1)
    number = np.add.reduceat(counts.astype(float), starts, axis=-1)
    return np.divide(total, number, out=np.full(total.shape, np.nan), where=number > 0)


def tempo_curve(beat_period: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Beats per minute at every unique score onset (..., U), clipped to 15..480."""
    period = mean_per_onset(beat_period, counts, starts)
    return np.clip(60.0 / np.maximum(period, 1e-6), *TEMPO_LIMITS)


def velocity_curve(velocity: np.ndarray, counts: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Mean MIDI velocity at every unique score onset (..., U), from codec velocities (MIDI / 127)."""
    return 127.0 * mean_per_onset(velocity, counts, starts)


def series(
    codec: np.ndarray, counts: np.ndarray, starts: np.ndarray, keydown: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """The named series of performances.

    Args:
        codec: (..., N, 5) in the order of ``CODEC_COLUMNS``; a column may be NaN where it is not known.
        counts: (..., N), the notes that count; the others are NaN in every series.
        starts: (U,) of ``onset_starts``.
        keydown: (..., N) articulation from key-down durations, where it is to be compared.

    Returns:
        By feature name (..., N) or, for the curves, (..., U). ``articulation_keydown`` only with ``keydown``.
    """
    period, velocity, timing, articulation, pedal = np.moveaxis(codec.astype(float), -1, 0)
    notes = {
        "log_beat_period": np.log2(np.maximum(period, 1e-6)),
        "velocity": 127.0 * velocity,
        "timing": timing,
        "articulation": articulation,
        "pedal": 127.0 * pedal,
    }
    if keydown is not None:
        notes["articulation_keydown"] = keydown.astype(float)
    return {
        "tempo_curve": tempo_curve(period, counts, starts),
        "velocity_curve": velocity_curve(velocity, counts, starts),
        **{name: np.where(counts, values, np.nan) for name, values in notes.items()},
    }
