"""Match files: a performance and its alignment to a score in one file of lines.

One compiled pattern reads files of versions 1.0.0 and 3.0 to 5.0 some fifty times faster than partitura, which takes
over when a version or a single line is of another kind.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from dexter_model.errors import InputError
from dexter_model.notes import Alignment, Performance
from dexter_model.reading.sounding import performance_of_keys

MAX_BYTES = 64 << 20
MAX_LINE = 2048  # characters; the longest of Vienna 4x22 and ASAP has 250. The pattern takes its square in time.
# What stands inside note(...): id, step, alteration, pitch or octave, onset, offset, velocity, channel, track.
_PITCHED = r"([^,\n]+)()(),(\d{1,3}),(\d{1,12}),(\d{1,12}),(\d{1,3}),(\d{1,3}),(\d{1,3})"
_SPELLED = r"([^,\n]+),\[([A-Ga-g]),(n|#|##|x|b|bb)\],(-?\d{1,3}),(\d{1,12}),(\d{1,12}),\d+,(\d{1,3})()()"
_LINES = {
    version: re.compile(
        r"^(?:(?:snote\(([^,\n]+),.*\[(.*)\]\)|insertion)-(?:deletion|note\(" + note + r"\))"
        r"|sustain\((\d{1,12}),(\d{1,3})\)|(?:soft|info|meta|scoreprop)\(.*\))\.[ \t]*$",
        re.MULTILINE,
    )
    for version, note in {"1.0.0": _PITCHED, "5.0": _SPELLED, "4.0": _SPELLED, "3.0": _SPELLED}.items()
}
_STEPS = {"": 0, "C": 12, "D": 14, "E": 16, "F": 17, "G": 19, "A": 21, "B": 23}  # octave -1 begins at 0
_ALTERATIONS = {"": 0, "n": 0, "#": 1, "##": 2, "x": 2, "b": -1, "bb": -2}


def load_match(path: str | Path) -> tuple[Performance, Alignment]:
    """Read a match file: the played notes and the alignment, both in the order of its lines.

    As in partitura, lines that occur twice count once, an insertion is dropped when another line holds the same played
    note, and deletions of tied notes (``leftOutTied``) are no part of the alignment. Unlike there, a note is read
    whatever its line says of its place in the score.

    Raises:
        InputError: ``performance_unreadable`` when it is no match file, holds no played note or absurd times.
    """
    try:
        if Path(path).stat().st_size > MAX_BYTES:
            raise ValueError("the file is too large for a match file")
        lines = list(dict.fromkeys(Path(path).read_text(encoding="utf-8").splitlines()))
        if max(map(len, lines), default=0) > MAX_LINE:
            raise ValueError(f"a line of it has more than {MAX_LINE} characters")
        text = "\n".join(filter(None, lines))
        version = re.match(r"info\(matchFileVersion,([\d.]+)\)\.", text)
        fields = _LINES[version[1]].findall(text) if version and version[1] in _LINES else []
        if len(fields) == text.count("\n") + 1:
            return _from_fields(fields, _seconds_per_tick(text))
        return _with_partitura(path, text)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise InputError(path, reason, "Give a match file, version 1.0.0 or 5.0", "performance_unreadable") from error


def load_clock(path: str | Path) -> tuple[int, int]:
    """Ticks and microseconds a quarter note, of a match file that was read; 480 and 500,000 where it does not say."""
    try:
        return _clock(Path(path).read_text(encoding="utf-8"))
    except ValueError:
        return 480, 500_000


def _clock(text: str) -> tuple[int, int]:
    rate = re.search(r"^info\(midiClockRate,(\d{1,12})\)", text, re.MULTILINE)
    units = re.search(r"^info\(midiClockUnits,(\d{1,12})\)", text, re.MULTILINE)
    if rate is None or units is None or int(units[1]) == 0:
        raise ValueError("it does not state midiClockRate and midiClockUnits")
    return int(units[1]), int(rate[1])


def _seconds_per_tick(text: str) -> tuple[int, float]:
    # Numerator and denominator apart, so that times round as in partitura.
    units, rate = _clock(text)
    return rate, 1e6 * units


def _from_fields(fields: list[tuple[str, ...]], tick: tuple[int, float]) -> tuple[Performance, Alignment]:
    rate, units = tick
    sustain = np.array([line[11:13] for line in fields if line[11]], float).reshape(-1, 2)
    pairs = [line for line in fields if line[0] or line[2]]
    if not any(line[2] for line in pairs):
        raise ValueError("it holds no played note")
    score_id, attributes, performance_id = (np.array(column) for column in list(zip(*pairs, strict=True))[:3])
    performance_id = _note_ids(performance_id)
    keep = ~_told_elsewhere(score_id, performance_id)
    keep &= (performance_id != "") | (np.char.find(attributes, "leftOutTied") < 0)
    played = [line[3:11] for line, kept in zip(pairs, keep, strict=True) if kept and line[2]]
    step, alteration, pitch, *numbers = zip(*played, strict=True)
    spelled = [_STEPS[name.upper()] + _ALTERATIONS[sign] for name, sign in zip(step, alteration, strict=True)]
    height = np.array(pitch, int) * (1 if step[0] == "" else 12) + spelled
    onset, offset, velocity = (np.array(column, float) for column in numbers[:3])
    channel, track = (np.array([int(number or 0) for number in column]) for column in numbers[3:])
    performance = performance_of_keys(
        performance_id[keep & (performance_id != "")],
        rate * onset / units,
        rate * offset / units,
        height,
        velocity,
        track,
        channel,
        sustain * [rate, 1] / [units, 1],
    )
    return performance, Alignment(score_id[keep], performance_id[keep])


def _note_ids(ids: np.ndarray) -> np.ndarray:
    """Ids of played notes begin with an n, also where the file counts 0, 1, ..."""
    bare = (ids != "") & ~np.char.startswith(ids, "n")
    return np.where(bare, np.char.add("n", ids), ids)


def _told_elsewhere(score_id: np.ndarray, performance_id: np.ndarray) -> np.ndarray:
    """Insertions whose played note another line holds too."""
    _, which, times = np.unique(performance_id, return_inverse=True, return_counts=True)
    return (score_id == "") & (performance_id != "") & (times[which] > 1)


def _with_partitura(path: str | Path, text: str) -> tuple[Performance, Alignment]:
    if "note(" not in text:
        raise ValueError("no line of it is one of a match file")
    import partitura

    try:
        performance, pairs = partitura.load_match(str(path), quiet=True)
        notes, controls = performance.performedparts[0].notes, performance.performedparts[0].controls
    except Exception as error:  # a parser of foreign files that raises whatever comes
        raise ValueError(f"partitura cannot read it either ({type(error).__name__}: {error})") from error
    if not notes:
        raise ValueError("it holds no played note")
    names = ("note_on", "note_off", "midi_pitch", "velocity", "track", "channel")
    pedal = [(control["time"], control["value"]) for control in controls if control["number"] == 64]
    onset, offset, pitch, velocity, track, channel = (np.array([note[name] for note in notes]) for name in names)
    note_id = np.array([str(note["id"]) for note in notes])
    sustain = np.array(pedal, float).reshape(-1, 2)
    performed = performance_of_keys(note_id, onset, offset, pitch, velocity, track, channel, sustain)
    pairs = [pair for pair in pairs if pair["label"] in ("match", "insertion", "deletion")]
    score_id, performance_id = ([pair.get(name, "") for pair in pairs] for name in ("score_id", "performance_id"))
    return performed, Alignment(np.array(score_id, str), np.array(performance_id, str))
