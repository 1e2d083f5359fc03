"""From composed numbers to notes that can be played, and to a MIDI file.

The original writes what it is given: pitches at the end of the scale (down to MIDI pitch 0), notes of no duration,
whose note-off no player finds, and notes of one pitch that overlap. By default a key that is struck again goes up
before, and pitches are kept on the piano (``generation``).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dexter_model.composer.extraction import DRUMS, TICKS_PER_BEAT
from dexter_model.composer.scale import nearest_pitch
from dexter_model.notes import RECORDED_NOTE
from dexter_model.places import write

VELOCITY = 100  # the original's; the composer knows of none


def played(values_N3: np.ndarray, row: int, program: int, tempo: float, shortest: float | None) -> np.ndarray:
    """The notes (n,) RECORDED_NOTE of one instrument, on the ticks of a MIDI file.

    Args:
        values_N3: frequency in Hz, duration and delta in beats.
        row: which instrument; its track and its channel, drums' left out.
        program: General MIDI, from 0.
        tempo: beats a minute.
        shortest: duration, in beats, that shorter notes are lengthened to, and notes of one pitch are cut at the next;
            None writes all as the original.
    """
    frequency, duration, delta = values_N3.astype(np.float64).T
    onset = np.cumsum(delta) * TICKS_PER_BEAT
    pitch = nearest_pitch(frequency)
    if shortest is None:  # cut off, not rounded
        begin, lasting = np.trunc(onset), np.trunc(duration * TICKS_PER_BEAT)
        return _notes(pitch, begin, begin + lasting, row, program, tempo)
    begin, end = np.rint(onset), np.rint(onset + np.maximum(duration, shortest) * TICKS_PER_BEAT)
    order = np.lexsort((begin, pitch))
    again = np.append(np.where(np.diff(pitch[order]) == 0, begin[order][1:], np.inf), np.inf)[: len(order)]
    end[order] = np.minimum(end[order], again)
    kept = end > begin
    pitch, begin, end = pitch[kept], begin[kept], end[kept]
    order = np.lexsort((pitch, begin))
    return _notes(pitch[order], begin[order], end[order], row, program, tempo)


def _notes(pitch: np.ndarray, begin: np.ndarray, end: np.ndarray, row: int, program: int, tempo: float) -> np.ndarray:
    notes = np.zeros(len(pitch), RECORDED_NOTE)
    notes["pitch"], notes["velocity"], notes["program"] = pitch, VELOCITY, program
    notes["channel"], notes["track"] = row + (row >= DRUMS), row
    notes["onset_beat"], notes["offset_beat"] = begin / TICKS_PER_BEAT, end / TICKS_PER_BEAT
    notes["onset_sec"], notes["offset_sec"] = (notes[name] * 60.0 / tempo for name in ("onset_beat", "offset_beat"))
    notes["sustained_sec"] = notes["offset_sec"]
    return notes


def write_composition(notes: np.ndarray, path: str | Path, tempo: float = 60.0) -> None:
    """Write notes as ``composition_as_midi``, all or nothing."""
    write(path, composition_as_midi(notes, tempo))


def composition_as_midi(notes: np.ndarray, tempo: float = 60.0) -> bytes:
    """A MIDI file of notes (n,) RECORDED_NOTE by their beats, of 960 ticks, a track an instrument."""
    import symusic

    score: Any = symusic.Score(TICKS_PER_BEAT, ttype="tick")
    score.tempos.append(symusic.Tempo(0, tempo, ttype="tick"))
    for number in np.unique(notes["track"]).tolist():
        own = notes[notes["track"] == number]
        begin, end = (np.rint(own[name] * TICKS_PER_BEAT).astype(np.int32) for name in ("onset_beat", "offset_beat"))
        track: Any = symusic.Track("", int(own["program"][0]), False, ttype="tick")
        columns = (begin, end - begin, own["pitch"].astype(np.int8), own["velocity"].astype(np.int8))
        track.notes = symusic.core.NoteTickList.from_numpy(*columns)
        score.tracks.append(track)
    return bytes(score.dumps_midi())
