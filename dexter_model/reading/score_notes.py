"""A score as partitura holds it, as written or unfolded, turned into one table of notes.

partitura builds its note array note by note and unfolds by copying every object of a part: together nearly half of the
time a score takes. Here a part's notes become columns once; unfolding takes rows of them along partitura's own path
through the repeats, and partitura's own beat map places them. Onsets, durations, voices and ids come out as
``unfold_part_maximal`` and ``note_array`` give them, faults included (in ASAP's Kreisleriana 3 four notes end before
they start); metre and markings are read where they are written.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from partitura import score as pt

from dexter_model.notes import SCORE_NOTE, Score
from dexter_model.reading.directions import Markings
from dexter_model.reading.markings import add_arpeggios, add_articulation, add_loudness, add_pedal, add_tempo

Pass = tuple[int, int, int]  # one time through a stretch of the written score: its start, its end, its shift, in divs
_MODE = {"major": 1, "minor": -1}
_REPETITION = re.compile(r"-\d+$")


def score_notes(parts: list[Any], markings: Mapping[str, Markings], *, unfold: bool) -> Score:
    """All parts' notes in one table, tied notes joined, sorted by onset and pitch.

    Args:
        parts: partitura's parts. With several, ids start with ``P00_``, ``P01_`` ...; divs are their common multiple.
        markings: what the document says to performers, by the parts' ids; none from formats that are not MusicXML.
        unfold: play all repeats; ids then tell them apart (``n12-1``, ``n12-2``; also where there is no repeat). A
            score whose ids do so already is unfolded and stays as it is.

    Raises:
        ValueError: the divisions of a part change, or a value is out of range.
    """
    sounding = [(f"P{index:02d}_" if len(parts) > 1 else "", part) for index, part in enumerate(parts) if part.notes]
    if not sounding:
        return Score(np.array([], "U1"), np.array([], SCORE_NOTE))
    common = math.lcm(*(_divs(part) for _, part in sounding))
    ids, tables = [], []
    for prefix, part in sounding:
        note_id, notes = _part_notes(part, markings.get(part.id, Markings()), common // _divs(part), unfold=unfold)
        ids.append(np.char.add(prefix, note_id))
        tables.append(notes)
    note_id, notes = np.concatenate(ids), np.concatenate(tables)
    order = np.lexsort((notes["pitch"], notes["onset_div"]))
    return Score(note_id[order], notes[order])


def _part_notes(part: Any, markings: Markings, scale: int, *, unfold: bool) -> tuple[np.ndarray, np.ndarray]:
    _check_span(part.last_point.t * scale)
    written = part.notes
    onset = np.array([note.start.t for note in written])
    note_id = _unique(np.array([note.id for note in written], str))
    unfold = unfold and not all(_REPETITION.search(name) for name in note_id)
    passes = _passes(part) if unfold else [(0, int(onset[-1]) + 1, 0)]
    row, start, duration, repetition = _play(written, onset, passes)
    end = start + duration
    _check_span(int(end.max()) * scale)

    beat_map = _beat_map(part, passes, int(end.max()))
    notes = _written_notes(part, markings, written, onset)[row]
    notes["onset_div"], notes["duration_div"] = start * scale, duration * scale
    notes["onset_beat"] = beat_map(start)
    notes["duration_beat"] = beat_map(end) - beat_map(start)
    notes["voice"][notes["voice"] == -1] = notes["voice"].max() + 1
    if notes["pitch"].min() < 0 or notes["pitch"].max() > 127:
        raise ValueError("it has notes of no MIDI pitch")
    # Some of ASAP's scores (Kreisleriana 3) hold notes of negative duration; codecs take them for grace notes.
    if not all(np.isfinite(notes[name]).all() for name in ("onset_beat", "metrical_position")):
        raise ValueError("it has notes of no possible time")
    return np.char.add(note_id[row], np.char.mod("-%d", repetition)) if unfold else note_id[row], notes


def _divs(part: Any) -> int:
    durations = part.quarter_durations()[:, 1]
    if len(durations) != 1 or durations[0] < 1:
        raise ValueError("the divisions of a quarter note change within a part")
    return int(durations[0])


def _check_span(divs: int) -> None:
    if divs >= 1 << 30:
        raise ValueError("it lasts longer than any score")


def _passes(part: Any) -> list[Pass]:
    path = pt.get_paths(part, all_repeats=True)[0]
    segments = pt.new_scorevariant_from_path(path, part).segment_times
    return [(start, end, offset - start) for start, end, offset in segments]


def _play(written: list[Any], onset: np.ndarray, passes: list[Pass]) -> tuple[np.ndarray, ...]:
    """Row, onset, duration and number of repetition of each note that sounds; ties hold inside a pass only."""
    number = {id(note): row for row, note in enumerate(written)}
    previous = np.array([number.get(id(note.tie_prev), -1) for note in written])
    following = np.array([number.get(id(note.tie_next), -1) for note in written])
    length = np.array([note.duration for note in written])
    times_played = np.zeros(len(written), int)
    played = []
    for begin, end, shift in passes:
        low, high = np.searchsorted(onset, (begin, end))
        times_played[low:high] += 1
        row = low + np.flatnonzero((previous[low:high] < low) | (previous[low:high] >= high))
        duration, tied = length[row], following[row]
        while (inside := (tied >= low) & (tied < high)).any():
            duration[inside] += length[tied[inside]]
            tied = np.where(inside, following[tied], -1)
        played.append((row, onset[row] + shift, duration, times_played[row]))
    return tuple(np.concatenate(column) for column in zip(*played, strict=True))


def _beat_map(part: Any, passes: list[Pass], end: int) -> Callable[[np.ndarray], np.ndarray]:
    """partitura's beat map of the part as played: that of a part which has its metres and first bar only."""
    played = pt.Part(part.id, quarter_duration=_divs(part))
    for begin, stop, shift in passes:
        for signature in part.iter_all(pt.TimeSignature, start=begin, end=stop):
            played.add(pt.TimeSignature(signature.beats, signature.beat_type), signature.start.t + shift)
    upbeat = next(part.first_point.iter_starting(pt.Measure), None)
    if upbeat is not None and upbeat.end is not None:
        played.add(pt.Measure(), upbeat.start.t, upbeat.end.t)
    played.get_or_add_point(part.first_point.t)
    played.get_or_add_point(max(end, part.first_point.t + 1))
    beat_map: Callable[[np.ndarray], np.ndarray] = played.beat_map
    return beat_map


def _written_notes(part: Any, markings: Markings, written: list[Any], onset: np.ndarray) -> np.ndarray:
    objects = defaultdict(list)
    for thing in part.iter_all():
        objects[type(thing)].append(thing)
    notes = np.zeros(len(written), SCORE_NOTE)
    notes["pitch"] = [note.midi_pitch for note in written]
    notes["voice"] = [-1 if note.voice is None else note.voice for note in written]
    notes["staff"] = [note.staff or 0 for note in written]
    notes["grace"] = [isinstance(note, pt.GraceNote) for note in written]
    _add_metre(notes, onset, objects[pt.TimeSignature], objects[pt.Measure], _divs(part))
    _add_key(notes, onset, objects[pt.KeySignature])
    add_articulation(notes, onset, written, objects[pt.Slur])
    add_arpeggios(notes, written, markings)
    add_loudness(notes, onset, markings)
    add_tempo(notes, onset, markings)
    add_pedal(notes, onset, markings)
    return notes


def _add_metre(notes: np.ndarray, onset: np.ndarray, signatures: list[Any], measures: list[Any], divs: int) -> None:
    metres = np.array([(s.start.t, s.beats, s.beat_type) for s in signatures] or [(0, 4, 4)])

    def metre(time: np.ndarray) -> np.ndarray:
        in_force: np.ndarray = metres[np.maximum(np.searchsorted(metres[:, 0], time, side="right") - 1, 0)]
        return in_force

    _, notes["beats"], notes["beat_type"] = metre(onset).T
    if not measures:
        return
    bars = np.array([(m.start.t, m.start.t if m.end is None else m.end.t) for m in measures])
    length, (_, beats, beat_type) = bars[:, 1] - bars[:, 0], metre(bars[:, 0]).T
    missing = beats * 4 * divs / beat_type - length
    elapsed = np.zeros(len(bars))  # of a bar that starts before this measure does
    elapsed[0] = max(missing[0], 0)  # an upbeat
    completes = (missing[1:] > 0) & (missing[:-1] > 0) & np.isclose(missing[1:], length[:-1])
    elapsed[1:][completes] = length[:-1][completes]  # a repeat sign divides the bar
    bar = np.maximum(np.searchsorted(bars[:, 0], onset, side="right") - 1, 0)
    notes["metrical_position"] = (onset - bars[bar, 0] + elapsed[bar]) / divs * notes["beat_type"] / 4


def _add_key(notes: np.ndarray, onset: np.ndarray, signatures: list[Any]) -> None:
    if signatures:
        keys = np.array([(s.start.t, min(max(s.fifths or 0, -7), 7), _MODE.get(s.mode, 0)) for s in signatures])
        in_force = keys[np.maximum(np.searchsorted(keys[:, 0], onset, side="right") - 1, 0)]
        notes["key"], notes["mode"] = in_force[:, 1], in_force[:, 2]


def _unique(note_id: np.ndarray) -> np.ndarray:
    """Ids that a faulty file gives to several notes get ``.2``, ``.3`` ... in document order."""
    _, group, count = np.unique(note_id, return_inverse=True, return_counts=True)
    if len(count) == len(note_id):
        return note_id
    order = np.argsort(group, kind="stable")
    number = np.empty(len(note_id), int)
    number[order] = np.arange(len(note_id)) - (np.cumsum(count) - count)[group[order]] + 1
    return np.where(number == 1, note_id, np.char.add(note_id, np.char.mod(".%d", number)))
