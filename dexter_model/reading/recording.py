"""Performances without scores, from files of any kind, as the notes that generators learn from.

MIDI files are read as Magenta's data sets were made of them, by pretty_midi's rules, which differ from partitura's in
``midi``: a note-off ends every note of its key that sounds. Scores count as performances in strict time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dexter_model.errors import InputError
from dexter_model.notes import RECORDED_NOTE
from dexter_model.places import record_of
from dexter_model.reading.midi import DEFAULT_TEMPO, SUSTAIN, Clock, Track, load_tracks
from dexter_model.reading.note_sequences import DRUMS, index, read_sequence
from dexter_model.reading.sounding import MAX_SECONDS
from dexter_model.reading.sustain import sustained_ends

MIDI = (".mid", ".midi")
MAX_NOTES = 1_000_000
MAX_BEATS = 1_000_000  # a day at 700 quarter notes a minute
VELOCITIES = np.array([64, 16, 33, 49, 64, 80, 96, 112, 126])  # of notes.DYNAMICS, as notation programs play them

Played = tuple[
    np.ndarray, np.ndarray
]  # RECORDED_NOTE (n,) without sustained ends; pedal (k, 4): track, channel, s, value


def load_recording(path: str | Path) -> np.ndarray:
    """Read a performance.

    Args:
        path: a MIDI file, a match file, one record of a TFRecord file of NoteSequences (``notes.tfrecord#12``), or a
            score: its written notes at its marked tempo (120 quarter notes a minute where none is), as loud as its
            dynamics say; grace notes, which have no time of their own, are left out.

    Returns:
        (n,) RECORDED_NOTE, n > 0, sorted by onset in s, then pitch.

    Raises:
        InputError: ``performance_unreadable``, ``no_notes``, ``too_many_notes``, or what ``load_score`` raises.
    """
    file, record = record_of(path)
    suffix = Path(file).suffix.lower()
    if record:
        notes, pedal = read_sequence(file, int(record[1:]))
    elif record_of(f"{path}#0")[1]:
        remedy = f"Name one as {Path(file).name}#0"
        raise InputError(path, f"it is a file of {len(index(path))} records", remedy, "performance_unreadable")
    elif suffix in MIDI:
        notes, pedal = _of_midi(path)
    elif suffix == ".match":
        notes, pedal = _of_match(path)
    else:
        notes, pedal = _of_score(path)
    _check(path, notes, pedal)
    order = np.lexsort((notes["pitch"], notes["onset_sec"]))
    return _sustained(notes[order], pedal)


def _check(path: str | Path, notes: np.ndarray, pedal: np.ndarray) -> None:
    """Refuse what is no performance; all that comes after may rely on it."""
    if not len(notes):
        raise InputError(path, "it holds no note", "Give a performance with notes", "no_notes")
    if len(notes) > MAX_NOTES:
        reason = f"{len(notes):,} notes are too many for a performance (limit {MAX_NOTES:,})"
        raise InputError(path, reason, "Cut it into pieces", "too_many_notes")
    reason = ""
    for unit, limit in (("sec", MAX_SECONDS), ("beat", MAX_BEATS)):
        onset, offset = notes[f"onset_{unit}"], notes[f"offset_{unit}"]
        if not (onset.min() >= 0 and offset.max() <= limit):  # nor is NaN
            reason = f"its times leave the range of 0 to {MAX_SECONDS // 3600} hours, or of {MAX_BEATS:,} quarter notes"
        elif np.any(offset < onset):
            reason = "a note ends before it begins"
    if not reason and not np.any(notes["offset_sec"] > notes["onset_sec"]):
        reason = "none of its notes lasts any time"
    if not reason and not np.all((pedal[:, 2] >= 0) & (pedal[:, 2] <= MAX_SECONDS)):
        reason = "its pedal moves at an absurd time"
    if reason:
        raise InputError(path, reason, "Export the performance again", "performance_unreadable")


def _sustained(notes: np.ndarray, pedal: np.ndarray) -> np.ndarray:
    """The notes with their ends by the pedal; an instrument is what has track, channel and programme in common.

    A pedal moves for all programmes of its track and channel. Drums have none.
    """
    notes["sustained_sec"] = notes["offset_sec"]
    place = notes["track"].astype(int) * 16 + notes["channel"]
    pedal_place = pedal[:, 0] * 16 + pedal[:, 1]
    heard = np.isin(pedal_place, place)
    drums = notes["channel"] == DRUMS
    last = max(notes["offset_sec"][~drums].max(initial=0), pedal[heard, 2].max(initial=0))
    instrument = np.where(drums | ~np.isin(place, pedal_place), -1, place * 128 + notes["program"])
    rows, pedal = np.argsort(instrument, kind="stable"), pedal[np.argsort(pedal_place, kind="stable")]
    instrument, pedal_place = np.sort(instrument), np.sort(pedal_place)
    for number in np.unique(instrument[instrument >= 0]):
        played = rows[slice(*np.searchsorted(instrument, (number, number + 1)))]
        moved = pedal[slice(*np.searchsorted(pedal_place, (number // 128, number // 128 + 1)))]
        here = notes[played]
        notes["sustained_sec"][played] = sustained_ends(
            here["onset_sec"], here["offset_sec"], here["pitch"], moved[:, 2], moved[:, 3], last
        )
    return notes


def _of_midi(path: str | Path) -> Played:
    ticks_per_quarter, tracks = load_tracks(path)
    clock = Clock(ticks_per_quarter, [tempo for track in tracks for tempo in track.tempos])
    if np.any(clock.tempos == 0):
        raise InputError(path, "its tempo is infinite", "Export the performance again", "performance_unreadable")
    try:
        played = [_of_track(track, number, clock) for number, track in enumerate(tracks) if len(track.events)]
    except ValueError as error:
        remedy = "Fetch or export it again"
        raise InputError(path, str(error), remedy, "performance_unreadable") from error
    notes, pedals = zip(*played, strict=True) if played else ((), ())
    return np.concatenate([*notes, np.zeros(0, RECORDED_NOTE)]), np.concatenate([*pedals, np.zeros((0, 4))])


def _of_track(track: Track, number: int, clock: Clock) -> Played:
    """Notes of a track, those of a key in the order of their note-ons, and its sustain pedals."""
    tick, status, data1, data2 = (
        track.events >> shift & mask for shift, mask in ((24, -1), (16, 255), (8, 255), (0, 255))
    )
    down, up = _closed(tick, status, data1, data2)
    pedal = np.flatnonzero((status >> 4 == 0xB) & (data1 == SUSTAIN))
    if max(data1[down].max(initial=0), data2[down].max(initial=0), data2[pedal].max(initial=0)) > 127:
        raise ValueError("a data byte above 127 stands in a MIDI event")
    notes = np.zeros(len(down), RECORDED_NOTE)
    for name, at in (("onset", tick[down]), ("offset", tick[up])):
        notes[f"{name}_sec"] = clock(at)
        notes[f"{name}_beat"] = at / clock.ticks_per_quarter
    notes["pitch"], notes["velocity"] = data1[down], data2[down]
    notes["program"], notes["channel"], notes["track"] = _programs(status, data1, up), status[down] & 0xF, number
    strip = np.full(len(pedal), number), status[pedal] & 0xF
    return notes, np.column_stack([*strip, clock(tick[pedal]), data2[pedal]])


def _programs(status: np.ndarray, data1: np.ndarray, at: np.ndarray) -> np.ndarray:
    """The programme in force on the channels of these messages (indices), 0 before the first."""
    changes = np.flatnonzero(status >> 4 == 0xC)
    order = np.lexsort((changes, status[changes] & 0xF))
    changes = changes[order]
    keys, wanted = ((status[each] & 0xF) * len(status) + each for each in (changes, at))
    before = np.searchsorted(keys, wanted) - 1
    programs = np.append(data1[changes] & 0x7F, 0)  # the last for those without
    same = (before >= 0) & (np.append(status[changes] & 0xF, -1)[before] == status[at] & 0xF)
    return programs[np.where(same, before, -1)]


def _closed(tick: np.ndarray, status: np.ndarray, pitch: np.ndarray, velocity: np.ndarray) -> tuple[np.ndarray, ...]:
    """Indices of the note-on and the note-off of each note, key by key.

    A note-off ends every sounding note of its key that began at another tick. When there are such, notes that begin at
    its own tick sound on; when there are none, they are dropped, as are notes that nothing ends.
    """
    notes = np.flatnonzero(status >> 5 == 0b100)  # 0x8n and 0x9n
    key = (status[notes] & 0xF) << 8 | pitch[notes]
    notes, key = notes[np.argsort(key, kind="stable")], np.sort(key)
    on = (status[notes] >> 4 == 0x9) & (velocity[notes] > 0)
    downs, ups = np.flatnonzero(on), np.flatnonzero(~on)
    if not len(ups):
        return notes[:0], notes[:0]
    following = np.searchsorted(ups, downs)
    ended = np.append(key[ups], -1)[following] == key[downs]
    downs, following = downs[ended], following[ended]
    at_once = tick[notes[downs]] == tick[notes[ups[following]]]
    keeps, linked = _keeping(tick[notes[ups]], key[ups], following, at_once)
    sounding = ~at_once | keeps[following] & np.append(linked, False)[following + 1]
    return notes[downs[sounding]], notes[ups[(following + at_once)[sounding]]]


def _keeping(tick: np.ndarray, key: np.ndarray, following: np.ndarray, at_once: np.ndarray) -> tuple[np.ndarray, ...]:
    """Which note-offs let notes of their own tick sound on, and which come at another tick after one of the same key.

    A note-off does if it ends another note: one that began since the last note-off, or that the last one let sound on.
    """
    others, twins, linked = (np.zeros(len(tick), bool) for _ in range(3))
    others[following[~at_once]] = True
    twins[following[at_once]] = True
    linked[1:] = (key[1:] == key[:-1]) & (tick[1:] != tick[:-1])
    place = np.arange(len(tick))
    begun = np.maximum.accumulate(np.where(twins & others, place, -1))
    broken = np.maximum.accumulate(np.where(twins & (others | linked), -1, place))
    return begun > broken, linked


def _of_match(path: str | Path) -> Played:
    """The performance in a match file, one instrument.

    Times are brought back to its ticks: rounded to float32, what happened at one tick would come one after the other.
    """
    from dexter_model.reading.match import load_clock, load_match

    performance, _ = load_match(path)
    ticks_per_quarter, tempo = load_clock(path)
    ticks_per_second = 1e6 * ticks_per_quarter / max(tempo, 1)
    clock = Clock(ticks_per_quarter, [(0, tempo)])
    notes = np.zeros(len(performance.notes), RECORDED_NOTE)
    ends = performance.notes["onset_sec"] + performance.notes["keydown_sec"]
    for name, seconds in (("onset", performance.notes["onset_sec"]), ("offset", ends)):
        tick = np.rint(seconds * ticks_per_second)
        notes[f"{name}_sec"], notes[f"{name}_beat"] = clock(tick), tick / ticks_per_quarter
    notes["pitch"], notes["velocity"] = performance.notes["pitch"], performance.notes["velocity"]
    pedal = performance.pedal
    return notes, np.column_stack(
        [np.zeros((len(pedal), 2)), clock(np.rint(pedal[:, 0] * ticks_per_second)), pedal[:, 1]]
    )


def _of_score(path: str | Path) -> Played:
    """The notes of a score in strict time."""
    from dexter_model.reading.score import load_score

    score = load_score(path).notes
    score = score[score["duration_div"] > 0]
    if not len(score):
        return np.zeros(0, RECORDED_NOTE), np.zeros((0, 4))
    beat_type = np.maximum(score["beat_type"], 1)
    quarters = 4.0 * score["duration_beat"] / beat_type
    divs = max(1, round(float(np.median(score["duration_div"] / np.maximum(quarters, 1e-6)))))
    marked = np.where(score["tempo"] > 0, score["tempo"] * 4.0 / beat_type, 6e7 / DEFAULT_TEMPO)
    onset, offset = score["onset_div"], score["onset_div"] + score["duration_div"]
    clock = Clock(divs, list(zip(onset.tolist(), np.rint(6e7 / marked).astype(int).tolist(), strict=True)))
    notes = np.zeros(len(score), RECORDED_NOTE)
    for name, at in (("onset", onset), ("offset", offset)):
        notes[f"{name}_sec"] = clock(at)
        notes[f"{name}_beat"] = at / divs
    notes["pitch"], notes["velocity"] = score["pitch"], VELOCITIES[score["dynamic"]]
    return notes, np.zeros((0, 4))
