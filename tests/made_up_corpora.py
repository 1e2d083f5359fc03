"""A folder of MIDI files that nobody played: synthetic, quick, long enough for every generator."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dexter_model.codec.performance_midi import write_performance_midi
from dexter_model.notes import PERFORMED_NOTE, Performance


def write_performances(folder: Path, count: int = 12, notes: int = 300) -> Path:
    """Files ``piece_32.mid``, ...: random walks over the keyboard at some ten notes a second.

    Of twelve 34 and 43 are for testing, and 40 for validation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(32, 32 + count):
        rng = np.random.default_rng(number)
        played = np.zeros(notes, PERFORMED_NOTE)
        played["onset_sec"] = np.cumsum(rng.choice([0.0, 0.1, 0.15, 0.2], notes))
        played["keydown_sec"] = played["duration_sec"] = rng.uniform(0.05, 0.6, notes)
        played["pitch"] = 40 + np.abs(np.cumsum(rng.integers(-4, 5, notes))) % 48
        played["velocity"] = rng.integers(30, 100, notes)
        ids = np.array([f"n{index}" for index in range(notes)])
        write_performance_midi(Performance(ids, played, np.zeros((0, 2))), folder / f"piece_{number:02}.mid")
    return folder
