"""Performances as lists of notes: pitch, duration, and delta, the time since the note before began.

Two ways. ``load_reference`` reads a MIDI file as the original does, its defects included: one track, time that stands
before other messages than notes is lost, a key struck again while it sounds is not heard, beats of 960 ticks whatever
the file says, and one long or unfinished note refuses the file. ``segments`` cuts what it read as it is; what was read
in full (``reading.recording``) is cut with a look at each note, so that a long rest costs a segment and not a piece.

Of several instruments each is a row with a clock of its own: all rows of a segment start at one moment, and the first
delta of a row is the time from there to its first note. Rows end where their notes do: one of few notes lasts longer
than a segment, and so is not in each.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dexter_model.composer.config import DataConfig
from dexter_model.errors import InputError
from dexter_model.notes import RECORDED_NOTE
from dexter_model.reading.midi import Track, load_tracks

TICKS_PER_BEAT = 960  # the original's, whatever a file's own resolution
LONGEST_TICKS = 2048  # of durations and deltas
PIANOS, ORGANS = range(8), range(16, 24)
DRUMS = 9
REMEDY = "Give another file, or build the data set with the encoding notes"


class Segments(NamedTuple):
    """S segments of H rows of N notes, in the order of the piece, and what was left out, counted.

    ``values`` (S, H, N, 3) float32: MIDI pitch, duration, delta, 0 in rows that are not ``active`` (S, H);
    ``program`` (S, H) uint8.
    """

    values: np.ndarray
    program: np.ndarray
    active: np.ndarray
    left_out: Counter[str]


def load_reference(path: str | Path) -> np.ndarray:
    """The notes (n,) RECORDED_NOTE that the original finds in a MIDI file, in the order of its messages.

    Beats are ticks / 960, seconds the same: the original plays 60 of them a minute.

    Raises:
        InputError: no MIDI file (``performance_unreadable``), no track of keyboard instruments alone
            (``no_piano_track``), a note that never ends (``hanging_note``), one that lasts or waits for more than 2,048
            ticks (``over_long``).
    """
    _, tracks = load_tracks(path)
    number = _main_track(tracks)
    if number is None:
        reason = "has no track whose program changes are there and all name pianos or organs"
        raise InputError(path, reason, REMEDY, "no_piano_track")
    notes, ticks, hanging = _sounding(tracks[number].events)
    if hanging:
        raise InputError(path, f"holds {hanging} notes that never end", REMEDY, "hanging_note")
    if len(ticks) and max((ticks[:, 1] - ticks[:, 0]).max(), np.diff(ticks[:, 0], prepend=0).max()) > LONGEST_TICKS:
        reason = f"holds a note that lasts, or a rest before one, of more than {LONGEST_TICKS} ticks"
        raise InputError(path, reason, REMEDY, "over_long")
    for begin, end in (("onset_beat", "offset_beat"), ("onset_sec", "offset_sec")):
        notes[begin], notes[end] = ticks.T / TICKS_PER_BEAT
    notes["sustained_sec"], notes["track"] = notes["offset_sec"], number
    return notes


def _main_track(tracks: list[Track]) -> int | None:
    """The track of most messages among those that change programs, to keyboard instruments alone; the first of equals.

    Drums are not told apart.
    """
    lengths = [len(track.events) if _keyboard_alone(track.events) else 0 for track in tracks]
    return int(np.argmax(lengths)) if any(lengths) else None


def _keyboard_alone(events: np.ndarray) -> bool:
    changes = events[events >> 20 & 0xF == 0xC]
    return len(changes) > 0 and bool(np.isin(changes >> 8 & 0xFF, [*PIANOS, *ORGANS]).all())


def _sounding(events: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Notes in the order of their messages, their begins and ends (n, 2) in ticks; how many never end: then no notes.

    A note ends at the first note-off of its pitch, on whichever channel. The clock counts the note messages' own delta
    times, so that deltas are differences of begins.
    """
    tick, status = events >> 24, events >> 16 & 0xFF
    kept = status >> 5 == 0b100
    clock = np.cumsum(np.diff(tick, prepend=0)[kept])
    pitch, velocity = np.minimum(events[kept] >> 8 & 0xFF, 127), np.minimum(events[kept] & 0xFF, 127)
    order = np.argsort(pitch, kind="stable")
    on = ((status[kept] >> 4 == 0x9) & (velocity > 0))[order]
    sounds = np.append(False, on[:-1] & (np.diff(pitch[order]) == 0))[: len(on)]  # before the message
    turns = np.flatnonzero(on != sounds)  # of each pitch: begin, end, begin, end, ...
    hanging = int(on[turns].sum() - (~on[turns]).sum())
    pairs = order[turns[: 0 if hanging else None]].reshape(-1, 2)
    down, up = pairs[np.argsort(pairs[:, 0])].T
    notes = np.zeros(len(down), RECORDED_NOTE)
    notes["pitch"], notes["velocity"], notes["channel"] = pitch[down], velocity[down], status[kept][down] & 0xF
    notes["program"] = _programs(events, np.flatnonzero(kept)[down])
    return notes, np.column_stack([clock[down], clock[up]]), hanging


def _programs(events: np.ndarray, messages: np.ndarray) -> np.ndarray:
    """The program last named before each of these messages of a track."""
    changes = np.flatnonzero(events >> 20 & 0xF == 0xC)
    last = np.searchsorted(changes, messages) - 1
    return (events[changes] >> 8 & 0xFF)[np.maximum(last, 0)]


def segments(notes: np.ndarray, config: DataConfig) -> Segments:
    """Cut a performance, (n,) RECORDED_NOTE, into segments side by side.

    Counted as left out: notes of other instruments, without an end by the pedal, too long, or left over at the end of
    what a segment could be cut from, and rests at which segments end; as the original reads them, all notes of a piece
    with one that is too long.
    """
    if config.extraction == "reference":
        ticks = np.rint(np.stack([notes["onset_beat"], notes["offset_beat"]]) * TICKS_PER_BEAT)
        beats = np.stack([ticks[1] - ticks[0], np.diff(ticks[0], prepend=0.0)]) / TICKS_PER_BEAT
        if len(notes) and (beats.max(axis=1) > (config.longest_note, config.longest_delta)).any():
            return _segments([], notes["program"], config, Counter(over_long=len(notes)))
        row = np.column_stack([notes["pitch"], *beats])
        return _segments([row], notes["program"], config, Counter())
    wanted = _wanted(notes, config)
    left_out = Counter(other_instruments=len(notes) - int(wanted.sum()))
    onset, end = _times(notes, config)
    left_out["unsustained"] = int((wanted & np.isnan(end)).sum())
    wanted &= ~np.isnan(end)
    notes, onset, end = notes[wanted], onset[wanted], end[wanted]
    order = np.lexsort((notes["pitch"], onset))
    notes, onset, end = notes[order], onset[order], end[order]
    if config.rows > 1:
        return _cut_rows(notes, onset, end, config, left_out)
    row = np.column_stack([notes["pitch"], np.maximum(end - onset, config.shortest), np.diff(onset, prepend=onset[:1])])
    rests, long = row[:, 2] > config.longest_delta, row[:, 1] > config.longest_note
    left_out.update(long_rests=int(rests.sum()), long_notes=int(long.sum()))
    row[rests, 2] = 0.0  # a segment begins there
    runs = [row[run[~long[run]]] for run in np.split(np.arange(len(row)), np.flatnonzero(rests | long)) if len(run)]
    return _segments(runs, notes["program"], config, left_out)


def _wanted(notes: np.ndarray, config: DataConfig) -> np.ndarray:
    """Which notes are of the instruments that are read; the tenth channel is drums."""
    programs = {"piano": [*PIANOS], "keyboard": [*PIANOS, *ORGANS], "all": [*range(128)]}[config.programs]
    return np.isin(notes["program"], programs) & (notes["channel"] != DRUMS)


def _times(notes: np.ndarray, config: DataConfig) -> tuple[np.ndarray, np.ndarray]:
    if config.clock == "beats":
        return notes["onset_beat"], notes["offset_beat"]
    return notes["onset_sec"], notes["offset_sec" if config.ends == "key" else "sustained_sec"]


def _segments(runs: list[np.ndarray], programs: np.ndarray, config: DataConfig, left_out: Counter[str]) -> Segments:
    """Runs of notes (n, 3), each cut by itself, as segments of one row; their program is the one of most notes."""
    length = config.notes
    whole = [run[: len(run) // length * length].reshape(-1, 1, length, 3) for run in runs]
    values = np.concatenate([np.zeros((0, 1, length, 3)), *whole]).astype(np.float32)
    left_out["left_over"] += sum(len(run) for run in runs) - len(values) * length
    program = np.bincount(programs, minlength=1).argmax()
    return Segments(values, np.full((len(values), 1), program, np.uint8), np.ones((len(values), 1), bool), left_out)


def _cut_rows(
    notes: np.ndarray, onset: np.ndarray, end: np.ndarray, config: DataConfig, left_out: Counter[str]
) -> Segments:
    """Segments of several rows: the instruments of most notes, ordered by program.

    A segment lasts until the first of its rows is full. The others go on from there, in the next or, if not half of
    their notes are over by then, later: no note is in more than two segments. A row also sleeps where a rest is too
    long, or too few notes are left. Notes that are too long are cut, lest they silence the others of their row.
    """
    lasting = np.clip(end - onset, config.shortest, config.longest_note)
    left_out["long_notes"] = int((end - onset > config.longest_note).sum())
    part = notes["track"].astype(np.int64) << 16 | notes["channel"].astype(np.int64) << 8 | notes["program"]
    names, counts = np.unique(part, return_counts=True)
    chosen = sorted(names[np.argsort(-counts, kind="stable")][: config.rows], key=lambda name: (name & 0xFF, name))
    rows = [np.flatnonzero(part == name) for name in chosen]
    left_out["other_instruments"] += len(notes) - sum(map(len, rows))
    length, shape = config.notes, (config.rows, config.notes, 3)
    values, active = [np.zeros((0, *shape))], [np.zeros((0, config.rows), bool)]
    first, begin = [0] * len(rows), onset[0] if len(onset) else 0.0
    free = [0] * len(rows)  # the first note of each row that a segment may begin with
    while full := [r for r, row in enumerate(rows) if first[r] + length <= len(row)]:
        segment, awake = np.zeros((1, *shape)), np.zeros((1, config.rows), bool)
        for r in full:
            row = rows[r][first[r] : first[r] + length]
            delta = np.diff(onset[row], prepend=begin)
            awake[0, r] = first[r] >= free[r] and delta.max() <= config.longest_delta
            if awake[0, r]:
                segment[0, r] = np.column_stack([notes["pitch"][row], lasting[row], delta])
                free[r] = first[r] + length // 2
        if awake.any():
            values.append(segment)
            active.append(awake)
        left_out["sleeping_rows"] += int(config.rows - awake.sum())
        begin, soonest = min((onset[rows[r][first[r] + length - 1]], r) for r in full)
        first = [
            first[r] + length if r == soonest else max(first[r], int(np.searchsorted(onset[row], begin, side="right")))
            for r, row in enumerate(rows)
        ]
    program = np.zeros((sum(map(len, values)), config.rows), np.uint8)
    program[:, : len(chosen)] = np.array(chosen, np.int64) & 0xFF
    return Segments(np.concatenate(values).astype(np.float32), program, np.concatenate(active), left_out)
