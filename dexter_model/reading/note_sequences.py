"""NoteSequences, Magenta's performances, from TFRecord files of many of them; without TensorFlow and protobuf.

A record is a length, its checksum, the sequence as a protobuf message, its checksum (https://www.tensorflow.org/
tutorials/load_data/tfrecord). Of the message only notes, tempos and the sustain pedal are looked at. All notes of a
sequence are decoded at once, field by field: a thousand take no longer than one.
"""

from __future__ import annotations

import functools
import gzip
import os
import struct
import zlib
from collections import defaultdict
from pathlib import Path
from typing import IO, NamedTuple

import google_crc32c
import numpy as np

from dexter_model.errors import InputError
from dexter_model.notes import RECORDED_NOTE
from dexter_model.reading.protobuf import DOUBLE, FLOAT, MESSAGE, VARINT, places

MAX_BYTES = 64 << 20  # of a record; an hour of dense music has 2 MB
MAX_RECORDS = 1_000_000
MAX_UNPACKED = 64 << 30  # of a file; all of Lakh would have 20 GB
DRUMS = 9  # the channel that stands for is_drum
DEFAULT_QPM = 120.0
DEFAULT_VELOCITY = 64  # of notes that have none
_HEADER = struct.Struct("<QI")
_FRAME = _HEADER.size + 4
_GZIP = b"\x1f\x8b"
_SUSTAIN = 64
_MOST_FIELDS = 64  # of a note; the format has 14
# Fields of music.proto as their tags: the field's number, then three bits for how it is written.
_TEMPOS, _NOTES, _CONTROLS = 7, 8, 11
_NOTE = {"pitch": 1 << 3, "velocity": 2 << 3, "start": 3 << 3 | DOUBLE, "end": 4 << 3 | DOUBLE}
_NOTE |= {"instrument": 7 << 3, "program": 8 << 3, "is_drum": 9 << 3}
_CONTROL = {"time": 1 << 3 | DOUBLE, "number": 2 << 3, "value": 3 << 3, "instrument": 4 << 3, "is_drum": 6 << 3}
_TEMPO = {"time": 1 << 3 | DOUBLE, "qpm": 2 << 3 | DOUBLE}


class _Records(NamedTuple):
    file: IO[bytes]
    offsets: np.ndarray


def index(path: str | Path) -> np.ndarray:
    """Where the records of a TFRecord file, packed by gzip or not, begin: (n,) byte offsets in what is unpacked.

    Only lengths are read. Where a file is damaged so that no further record can be found, the last offset is that of
    the damage, and reading that record tells of it.

    Raises:
        InputError: ``performance_unreadable``: it cannot be opened; ``too_many_records``.
    """
    return _records(path).offsets


def read_sequence(path: str | Path, number: int) -> tuple[np.ndarray, np.ndarray]:
    """A sequence of a TFRecord file.

    Args:
        path: the file.
        number: of the record, from 0.

    Returns:
        (n,) RECORDED_NOTE in the sequence's order, ``sustained_sec`` not filled in, ``track`` its instrument and
        ``channel`` 9 for drums, else 0; and the sustain pedal (k, 4): track, channel, s, value.

    Raises:
        InputError: ``performance_unreadable``: there is no such record, or it is damaged or no NoteSequence.
    """
    records = _records(path)
    try:
        if not 0 <= number < len(records.offsets):
            raise ValueError(f"it has {len(records.offsets)} records")
        return _sequence(_payload(records.file, int(records.offsets[number])))
    except (OSError, zlib.error, EOFError, IndexError, ValueError) as error:
        reason = "it is cut short" if isinstance(error, EOFError | IndexError) else error
        told = f"record {number} is no sound NoteSequence ({reason})"
        raise InputError(path, told, "Get or export the file again", "performance_unreadable") from error


def _records(path: str | Path) -> _Records:
    try:
        status = Path(path).stat()
        return _opened(str(path), status.st_size, status.st_mtime_ns, os.getpid())
    except (OSError, EOFError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(path, reason, "Check the path and its permissions", "performance_unreadable") from error


@functools.lru_cache(maxsize=1)  # records are read one after another: what is packed is unpacked once on the way
def _opened(path: str, _size: int, _changed: int, _process: int) -> _Records:
    file: IO[bytes] = Path(path).open("rb")  # noqa: SIM115 (stays open for the next record)
    header = file.read(_HEADER.size)
    if header.startswith(_GZIP) and _length(header) is None:
        file.seek(0)
        file = gzip.GzipFile(fileobj=file)  # type: ignore[assignment]
    return _Records(file, np.array(_offsets(path, file), np.int64))


def _offsets(path: str, file: IO[bytes]) -> list[int]:
    offsets: list[int] = []
    position = 0
    while len(offsets) <= MAX_RECORDS and position <= MAX_UNPACKED:
        try:
            file.seek(position)
            header = file.read(_HEADER.size)
        except (OSError, zlib.error, EOFError):  # what is packed is damaged
            header = b"damaged"
        if not header:
            return offsets
        offsets.append(position)
        length = _length(header)
        if length is None:
            return offsets
        position += _FRAME + length
    reason = f"it has more than {MAX_RECORDS:,} records or {MAX_UNPACKED >> 30} GiB"
    raise InputError(path, reason, "Cut the file into several", "too_many_records")


def _length(header: bytes) -> int | None:
    """A record's length; None when its checksum does not hold or no record can be as long."""
    if len(header) < _HEADER.size:
        return None
    length, checksum = _HEADER.unpack(header)
    return length if length <= MAX_BYTES and checksum == _masked_crc(header[:8]) else None


def _masked_crc(data: bytes) -> int:
    crc = google_crc32c.value(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def _payload(file: IO[bytes], offset: int) -> bytes:
    file.seek(offset)
    length = _length(file.read(_HEADER.size))
    if length is None:
        raise ValueError("its length is damaged or absurd")
    data, checksum = file.read(length), file.read(4)
    if len(data) < length or len(checksum) < 4:
        raise EOFError
    if int.from_bytes(checksum, "little") != _masked_crc(data):
        raise ValueError("its checksum does not hold")
    return data


def _sequence(message: bytes) -> tuple[np.ndarray, np.ndarray]:
    found = _submessages(message)
    data = np.frombuffer(message + bytes(32), np.uint8)  # the end of a damaged message is never the array's
    note, tempo, control = (
        _columns(data, np.array(found[field], np.int64).reshape(-1, 2), tags)
        for field, tags in ((_NOTES, _NOTE), (_TEMPOS, _TEMPO), (_CONTROLS, _CONTROL))
    )
    limits = {"pitch": 127, "velocity": 127, "program": 127, "instrument": 0xFFFF}
    for name, most in limits.items():
        if np.any(note[name] > most):
            raise ValueError(f"a note's {name} is above {most}")
    notes = np.zeros(len(note["pitch"]), RECORDED_NOTE)
    for name in ("pitch", "program"):
        notes[name] = note[name]
    notes["velocity"] = np.where(note["velocity"] > 0, note["velocity"], DEFAULT_VELOCITY)
    notes["track"], notes["channel"] = note["instrument"], _channel(note)
    for name, end in (("onset", "start"), ("offset", "end")):
        notes[f"{name}_sec"] = note[end].view(float)
        notes[f"{name}_beat"] = _beats(note[end].view(float), tempo["time"].view(float), tempo["qpm"].view(float))
    pedal = np.column_stack([control["instrument"], _channel(control), control["time"].view(float), control["value"]])
    return notes, pedal[control["number"] == _SUSTAIN]


def _channel(columns: dict[str, np.ndarray]) -> np.ndarray:
    return np.where(columns["is_drum"] > 0, DRUMS, 0)


def _beats(seconds: np.ndarray, times: np.ndarray, qpm: np.ndarray) -> np.ndarray:
    """Quarter notes from the start, 120 a minute before the first tempo."""
    if not (np.isfinite(times).all() and np.isfinite(qpm).all() and np.all(qpm > 0) and np.all(times >= 0)):
        raise ValueError("it has a tempo of no music")
    order = np.argsort(times, kind="stable")
    times, qpm = np.append(0.0, times[order]), np.append(DEFAULT_QPM, qpm[order])
    beats = np.cumsum(np.append(0.0, np.diff(times) * qpm[:-1] / 60))
    change = np.maximum(np.searchsorted(times, seconds, side="right") - 1, 0)
    return beats[change] + (seconds - times[change]) * qpm[change] / 60


def _submessages(message: bytes) -> dict[int, list[tuple[int, int]]]:
    """Where the messages inside a message lie, by their field's number."""
    found: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, kind, begin, end in places(message):
        if kind == MESSAGE:
            found[number].append((begin, end))
    return found


def _columns(data: np.ndarray, places: np.ndarray, tags: dict[str, int]) -> dict[str, np.ndarray]:
    """Fields (uint64, 0 where they are not given) of the messages at these places (n, 2), decoded side by side."""
    columns = {name: np.zeros(len(places), np.uint64) for name in tags}
    at, ends = places[:, 0].copy(), places[:, 1]
    for _ in range(_MOST_FIELDS):
        left = np.flatnonzero(at < ends)
        if not len(left):
            break
        tag, position = _varints(data, at[left])
        value, at[left] = _values(data, position, tag & np.uint64(7))
        for name, wanted in tags.items():
            found = tag == wanted
            columns[name][left[found]] = value[found]
    if np.any(at != ends):
        raise ValueError("a message in it does not end where it should")
    return columns


def _values(data: np.ndarray, position: np.ndarray, kind: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The bits of values of these kinds at these places, those of texts their lengths, and where they end."""
    value, end = np.zeros(len(kind), np.uint64), position.copy()
    counted = (kind == VARINT) | (kind == MESSAGE)
    value[counted], end[counted] = _varints(data, position[counted])
    eight = kind == DOUBLE
    value[eight] = data[position[eight, None] + np.arange(8)].view("<u8")[:, 0]
    text = kind == MESSAGE
    end[text] += np.minimum(value[text], MAX_BYTES).astype(np.int64)
    end[eight] += 8
    end[kind == FLOAT] += 4
    if not np.isin(kind, (VARINT, DOUBLE, MESSAGE, FLOAT)).all():
        raise ValueError("it has a field of an unknown kind")
    return value, end


def _varints(data: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    value, end, going = np.zeros(len(at), np.uint64), at.copy(), np.ones(len(at), bool)
    for shift in range(0, 64, 7):
        byte = data[end].astype(np.uint64)
        value |= np.where(going, byte & np.uint64(127), np.uint64(0)) << np.uint64(shift)
        end += going
        going &= byte > 127
        if not going.any():
            return value, end
    raise ValueError("it has a number of more than 64 bits")
