"""The three tables everything speaks in: a score's notes, a performance's notes, and the alignment between them.

Plain numpy structured arrays ("note arrays") beside an array of note ids. Rows of a score are always sorted by score
onset (divs), then pitch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SCORE_NOTE = np.dtype(
    [
        ("onset_div", "i4"),
        ("duration_div", "i4"),
        ("onset_beat", "f4"),  # beats of the metre's denominator; negative in an upbeat
        ("duration_beat", "f4"),  # 0 for grace notes
        ("pitch", "i4"),  # MIDI pitch
        ("voice", "i4"),
        ("staff", "i4"),
        ("grace", "?"),
        ("metrical_position", "f4"),  # beats since the bar line
        ("beats", "i4"),  # time signature's numerator
        ("beat_type", "i4"),  # time signature's denominator
        ("dynamic", "i1"),  # marking in force: 0 none, 1 ppp ... 8 fff (DYNAMICS)
        ("ramp", "i1"),  # +1 inside a crescendo, -1 inside a diminuendo
        ("articulation", "u2"),  # bit flags (ARTICULATIONS)
        ("tempo", "f4"),  # marked, in beats of the metre's denominator a minute; 0 where not known
        ("tempo_ramp", "i1"),  # +1 inside an accelerando, -1 inside a ritardando
        ("key", "i1"),  # sharps of the key signature, negative: flats
        ("mode", "i1"),  # +1 major, -1 minor, 0 not said
    ]
)
DYNAMICS = ("none", "ppp", "pp", "p", "mp", "mf", "f", "ff", "fff")
ARTICULATIONS = (  # bit i = name i
    "staccato",
    "staccatissimo",
    "tenuto",
    "accent",
    "strong-accent",
    "fermata",
    "slur",  # under one
    "slur-start",
    "slur-stop",
    "sforzando",  # sf, fz, rf, fp and their like, at the onset where they stand
    "arpeggio",
    "trill",
    "ornament",  # mordents and turns
    "tremolo",
    "pedal",  # inside a written pedal mark
)

PERFORMED_NOTE = np.dtype(
    [
        ("onset_sec", "f8"),  # float32 could not tell 0.01 ms after four minutes; files are read to float32 (codec)
        ("duration_sec", "f4"),  # sounding: prolonged by the pedal, cut at the next onset of the same pitch
        ("keydown_sec", "f4"),  # from key down to key up
        ("pitch", "i4"),
        ("velocity", "i4"),
        ("track", "i4"),
        ("channel", "i4"),
    ]
)

RECORDED_NOTE = np.dtype(  # of a performance without a score: what generators learn from
    [
        ("onset_sec", "f8"),
        ("offset_sec", "f8"),  # key up
        ("sustained_sec", "f8"),  # its end by the pedal, by Magenta's rule; NaN where that rule drops the note
        ("onset_beat", "f8"),  # quarter notes of the file's own clock
        ("offset_beat", "f8"),
        ("pitch", "u1"),
        ("velocity", "u1"),
        ("program", "u1"),  # General MIDI, from 0
        ("channel", "u1"),  # 9: drums
        ("track", "u2"),
    ]
)

CODEC_COLUMNS = ("beat_period", "velocity", "timing", "articulation_log", "pedal")

PERCEPTUAL_FEATURES = (  # mid-level features (Aljanaki & Soleymani 2018), in the order of all their tables
    "melodiousness",
    "articulation",  # high: staccato
    "rhythm_complexity",
    "rhythm_stability",
    "dissonance",
    "tonal_stability",
    "minorness",  # high: minor
)


@dataclass(frozen=True, eq=False)
class Score:
    """A score as a note array: ``note_id`` (n,) of str and ``notes`` (n,) of SCORE_NOTE."""

    note_id: np.ndarray
    notes: np.ndarray


@dataclass(frozen=True, eq=False)
class Performance:
    """``note_id`` (m,), ``notes`` (m,) of PERFORMED_NOTE and ``pedal`` (k, 2), CC64 times in s and values."""

    note_id: np.ndarray
    notes: np.ndarray
    pedal: np.ndarray


@dataclass(frozen=True, eq=False)
class Alignment:
    """Pairs of ids, a row each; '' as ``performance_id`` is a deletion, '' as ``score_id`` an insertion."""

    score_id: np.ndarray
    performance_id: np.ndarray
