"""Performances as MIDI files that every reader understands alike.

Resolution: 10,000 ticks a quarter note at 120 beats a minute: 0.05 ms a tick, times are off by 0.025 ms at most. Half
of that resolution beyond 8 minutes, a quarter beyond 16, and so on, because pretty_midi takes a file of more than ten
million ticks for corrupt.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dexter_model.notes import Performance
from dexter_model.places import write

TICKS_PER_QUARTER = 10_000
TEMPO = 120.0  # quarter notes a minute
MAX_TICKS = 9_600_000
MAX_SECONDS = 24 * 3600  # later times are set here
SUSTAIN = 64


def write_performance_midi(performance: Performance, path: str | Path) -> None:
    """Write a performance as ``performance_as_midi``, all or nothing."""
    write(path, performance_as_midi(performance))


def performance_as_midi(performance: Performance) -> bytes:
    """A MIDI file of a performance: its keys and its CC64 events, one track, the same bytes each time.

    A key goes up at the latest when it goes down again, so that no note swallows the next of its pitch; notes of one
    pitch that begin in the same tick are set one tick apart. A pedal still down at last goes up with the last key.
    """
    import symusic

    resolution = _resolution(performance)
    per_second = resolution * TEMPO / 60
    track: Any = symusic.Track("piano", 0, False, ttype="tick")
    track.notes = symusic.core.NoteTickList.from_numpy(*_note_columns(performance.notes, per_second))
    times, values = _pedal(performance).T
    track.controls = symusic.core.ControlChangeTickList.from_numpy(
        _ticks(times, per_second), np.full(len(times), SUSTAIN, np.uint8), values.astype(np.uint8)
    )
    score: Any = symusic.Score(resolution, ttype="tick")
    score.tempos.append(symusic.Tempo(0, TEMPO, ttype="tick"))
    score.tracks.append(track)
    return bytes(score.dumps_midi())


def _pedal(performance: Performance) -> np.ndarray:
    """CC64 events (k, 2) in the order of their times, the last of them 0."""
    pedal = performance.pedal[np.argsort(performance.pedal[:, 0], kind="stable")]
    if not len(pedal) or pedal[-1, 1] == 0:
        return pedal
    keys_up = (performance.notes["onset_sec"] + performance.notes["keydown_sec"]).max(initial=0)
    return np.vstack([pedal, [max(keys_up, pedal[-1, 0]), 0]])


def _resolution(performance: Performance) -> int:
    """Ticks a quarter note: 10,000, halved until the whole performance has few enough ticks."""
    ends = performance.notes["onset_sec"] + performance.notes["keydown_sec"]
    end = min(max(ends.max(initial=0), performance.pedal[:, 0].max(initial=0)), MAX_SECONDS)
    halvings = np.ceil(np.log2(max(end * TICKS_PER_QUARTER * TEMPO / 60 / MAX_TICKS, 1)))
    return TICKS_PER_QUARTER >> int(halvings)


def _note_columns(notes: np.ndarray, per_second: float) -> tuple[np.ndarray, ...]:
    """Onset and duration in ticks, pitch and velocity, sorted by onset, then pitch."""
    notes = notes[np.lexsort((notes["onset_sec"], notes["pitch"]))]
    pitch = notes["pitch"]
    same_key = np.diff(pitch, append=-1) == 0  # as the note that follows in this order
    start = _apart(_ticks(notes["onset_sec"], per_second), same_key)
    end = np.maximum(_ticks(notes["onset_sec"] + notes["keydown_sec"], per_second), start + 1)
    end = np.where(same_key, np.minimum(end, np.append(start[1:], 0)), end)
    order = np.lexsort((pitch, start))
    columns = (start, end - start, pitch, notes["velocity"])
    return tuple(column[order].astype(kind) for column, kind in zip(columns, ("i4", "i4", "i1", "i1"), strict=True))


def _apart(start: np.ndarray, same_key: np.ndarray) -> np.ndarray:
    """Onsets that rise by a tick at least from note to note of one key: a running maximum, begun anew at each key."""
    rank = np.arange(len(start))
    key = np.cumsum(np.append(0, ~same_key[:-1]))[: len(start)]
    above = key * (int(start.max(initial=0)) + len(start) + 1)  # lifts every key above all those before
    return np.maximum.accumulate(start - rank + above) + rank - above


def _ticks(seconds: np.ndarray, per_second: float) -> np.ndarray:
    return np.rint(np.clip(seconds, 0, MAX_SECONDS) * per_second).astype(np.int32)
