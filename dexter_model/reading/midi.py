"""Performance MIDI files as note arrays.

A reader of our own: alignments name the notes of a file by number, so notes must be paired and numbered exactly as
partitura does (a note-on for a sounding key starts the note anew). The fast libraries pair otherwise, which shifts the
numbers in 2 % of ASAP's files; partitura itself needs a second a file where this needs some milliseconds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dexter_model.errors import InputError
from dexter_model.notes import Performance
from dexter_model.reading.sounding import performance_of_keys

MAX_BYTES = 16 << 20  # the largest performance of ASAP has 0.3 MB
DEFAULT_TEMPO = 500_000  # microseconds a quarter note
SUSTAIN = 64


class Track(NamedTuple):
    """A track's messages, in their order, as packed integers (tick, status, two bytes), and its tempos.

    The bytes are a channel message's data, 0 for what it has not; of a meta event, its kind and 0; else 0.
    """

    events: np.ndarray
    tempos: list[tuple[int, int]]


def load_midi(path: str | Path) -> Performance:
    """Read a performance MIDI file.

    Notes are numbered n0, n1, ... by onset, pitch, offset and channel. Where several tracks play, ids begin with the
    track's rank (P00_n0), as in partitura, and a pedal acts on the notes of its own track.

    Raises:
        InputError: ``performance_unreadable`` for what is no MIDI file, is cut short, holds no note or absurd times.
    """
    with _refusing(path):
        ticks_per_quarter, tracks = _tracks(_read(path))
        clock = Clock(ticks_per_quarter, [tempo for track in tracks for tempo in track.tempos])
        return _performance(tracks, clock)


def load_tracks(path: str | Path) -> tuple[int, list[Track]]:
    """Ticks a quarter note and the tracks of a MIDI file, data bytes as they stand there (``InputError`` as above)."""
    with _refusing(path):
        return _tracks(_read(path))


@contextlib.contextmanager
def _refusing(path: str | Path) -> Iterator[None]:
    """A block that reads a file, whose errors are told as what is wrong with it."""
    try:
        yield
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error), "Check the path and its permissions") from error
    except IndexError as error:
        raise _unreadable(path, "the file ends in the middle of a track", "Fetch or export it again") from error
    except ValueError as error:
        raise _unreadable(path, str(error), "Give a standard MIDI file of one performance") from error


def _unreadable(path: str | Path, reason: str, remedy: str) -> InputError:
    return InputError(path, reason, remedy, "performance_unreadable")


def _read(path: str | Path) -> bytes:
    size = Path(path).stat().st_size
    if size > MAX_BYTES:
        raise ValueError(f"{size >> 20} MiB is too large for a performance (limit {MAX_BYTES >> 20} MiB)")
    return Path(path).read_bytes()


def _tracks(data: bytes) -> tuple[int, list[Track]]:
    """Ticks a quarter note and the tracks of a MIDI file."""
    if not data:
        raise ValueError("the file is empty")
    if data[:4] != b"MThd" or len(data) < 14:
        raise ValueError("it does not begin with a MIDI header")
    position = 8 + int.from_bytes(data[4:8])
    tracks_declared, ticks_per_quarter = int.from_bytes(data[10:12]), int.from_bytes(data[12:14])
    if not 0 < ticks_per_quarter < 0x8000:
        raise ValueError("its time is not counted in ticks a quarter note")
    tracks = []
    for _ in range(tracks_declared):
        if len(data) < position + 8:
            raise IndexError
        if data[position : position + 4] != b"MTrk":
            raise ValueError(f"no track begins at byte {position}")
        start = position + 8
        position = start + int.from_bytes(data[position + 4 : start])
        if position > len(data):
            raise IndexError
        tracks.append(_track(data[start:position]))
    return ticks_per_quarter, tracks


def _track(data: bytes) -> Track:
    # One pass over the bytes: the length of an event is known only when the events before it have been read.
    events: list[int] = []
    tempos: list[tuple[int, int]] = []
    position = tick = running = 0
    while position < len(data):
        delta, position = _variable_length(data, position)
        tick += delta
        status = data[position]
        if status < 0x80:
            status = running
        else:
            position += 1
        if 0x80 <= status < 0xF0:
            running = status
            if 0xC0 <= status < 0xE0:  # programme and channel pressure have one data byte
                events.append(tick << 24 | status << 16 | data[position] << 8)
                position += 1
            else:
                events.append(tick << 24 | status << 16 | data[position] << 8 | data[position + 1])
                position += 2
        elif status in (0xF0, 0xF7, 0xFF):
            kind = data[position] if status == 0xFF else 0
            events.append(tick << 24 | status << 16 | kind << 8)
            length, position = _variable_length(data, position + (status == 0xFF))
            if kind == 0x51:
                tempos.append((tick, int.from_bytes(data[position : position + 3])))
            position += length
        else:
            raise ValueError(f"byte {status:#04x} begins no MIDI event")
    if position > len(data):
        raise IndexError
    if tick >= 1 << 38:
        raise ValueError("its times are absurd")
    return Track(np.array(events, np.int64), tempos)


def _variable_length(data: bytes, position: int) -> tuple[int, int]:
    byte = data[position]
    value = byte & 0x7F
    while byte & 0x80:
        position += 1
        byte = data[position]
        value = value << 7 | byte & 0x7F
    return value, position + 1


class Clock:
    """Ticks to seconds through all tempo changes (tick, microseconds a quarter note) of a file."""

    def __init__(self, ticks_per_quarter: int, tempos: list[tuple[int, int]]) -> None:
        tempos = sorted([(0, DEFAULT_TEMPO), *tempos], key=lambda tempo: tempo[0])
        self.ticks, self.tempos = np.array(tempos, np.int64).T
        self.ticks_per_quarter = ticks_per_quarter
        self.microticks = ticks_per_quarter * 10**6
        spans = self.tempos[:-1] * np.diff(self.ticks) / self.microticks
        self.seconds = np.cumsum(np.concatenate([[0.0], spans]))

    def __call__(self, ticks: np.ndarray) -> np.ndarray:
        """Seconds."""
        change = np.searchsorted(self.ticks, ticks, side="right") - 1
        return self.seconds[change] + (ticks - self.ticks[change]) * (self.tempos[change] / self.microticks)


def _performance(tracks: list[Track], clock: Clock) -> Performance:
    parts = [(number, events) for number, events in enumerate(_channel_messages(track) for track in tracks)]
    parts = [(number, events) for number, events in parts if len(events)]
    played = [
        _part(events, number, f"P{rank:02d}_n" if len(parts) > 1 else "n", clock)
        for rank, (number, events) in enumerate(parts)
    ]
    if not any(len(part.notes) for part in played):
        raise ValueError("it holds no note")
    if len(played) == 1:
        return played[0]
    notes = np.concatenate([part.notes for part in played])
    note_id = np.concatenate([part.note_id for part in played])
    pedal = np.concatenate([part.pedal for part in played])
    order = np.lexsort((notes["pitch"], notes["onset_sec"]))
    return Performance(note_id[order], notes[order], pedal[np.argsort(pedal[:, 0], kind="stable")])


def _channel_messages(track: Track) -> np.ndarray:
    """Events of a track without channel pressure, which by itself makes no part."""
    status = track.events >> 16 & 0xFF
    return track.events[(status < 0xF0) & (status >> 4 != 0xD)]


def _part(events: np.ndarray, number: int, prefix: str, clock: Clock) -> Performance:
    tick, status, data1, data2 = events >> 24, events >> 16 & 0xFF, events >> 8 & 0xFF, events & 0xFF
    if len(events) and max(data1.max(), data2.max()) > 127:
        raise ValueError("a data byte above 127 stands in a MIDI event")
    sustain = (status >> 4 == 0xB) & (data1 == SUSTAIN)
    pedal = np.column_stack([clock(tick[sustain]), data2[sustain]])
    down, up = _paired(status, data1, data2)
    order = np.lexsort((status[down] & 0xF, tick[up], data1[down], tick[down]))
    down, up = down[order], up[order]
    note_id = np.array([f"{prefix}{index}" for index in range(len(down))], dtype=str)
    return performance_of_keys(
        note_id, clock(tick[down]), clock(tick[up]), data1[down], data2[down], number, status[down] & 0xF, pedal
    )


def _paired(status: np.ndarray, pitch: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the note-on and the note-off of each note: a note-off ends the note-on right before it on its key."""
    notes = np.flatnonzero(status >> 5 == 0b100)  # 0x8n and 0x9n
    key = (status[notes] & 0xF) << 7 | pitch[notes]
    notes = notes[np.argsort(key, kind="stable")]
    key.sort()
    on = (status[notes] >> 4 == 0x9) & (velocity[notes] > 0)
    pairs = np.flatnonzero(on[:-1] & ~on[1:] & (key[:-1] == key[1:]))
    return notes[pairs], notes[pairs + 1]
