"""A written part's markings, as columns beside its notes: dynamics, tempo, ramps of both, articulation, slurs, pedal.

Markings stand in the score once and hold for stretches of notes; a model wants them at every note. On the piano a
marking means both hands, wherever it stands; only where two staves are marked at once does each have its own. Slurs
hold for the voice they start in.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any

import numpy as np

from dexter_model.notes import ARTICULATIONS, DYNAMICS
from dexter_model.reading.directions import FASTEST, SLOWEST, Direction, Markings

LOUDNESS_BARS, TEMPO_BARS = 8, 4  # how many a ramp of words lasts at most when nothing ends it

_FLAG = {name: 1 << bit for bit, name in enumerate(ARTICULATIONS)}
_MARKED = _FLAG | {
    "detached-legato": _FLAG["staccato"] | _FLAG["tenuto"],
    "spiccato": _FLAG["staccatissimo"],
    "trill-mark": _FLAG["trill"],
}
_ORNAMENTS = (
    "turn delayed-turn inverted-turn delayed-inverted-turn vertical-turn inverted-vertical-turn "
    "shake mordent inverted-mordent schleifer haydn"
)
_MARKED |= dict.fromkeys(_ORNAMENTS.split(), _FLAG["ornament"])

Span = tuple[float, float, int]  # from, until (in divs), value


def add_loudness(notes: np.ndarray, onset: np.ndarray, markings: Markings) -> None:
    """Fill in ``dynamic`` and ``ramp``, and add the flag "sforzando".

    A level holds until the next. A hairpin lasts from its start to its stop, a word until its dashes stop, until the
    next level or ramp, or for ``LOUDNESS_BARS``.

    Args:
        notes: (n,) SCORE_NOTE, with staves.
        onset: (n,) in divs.
        markings: the part's.
    """
    for staff in np.unique(notes["staff"]):
        here = notes["staff"] == staff
        heard = _heard(markings.directions, int(staff))
        changes = _levels(heard)
        if changes:
            times, levels = np.array([(-1, 0), *changes]).T
            notes["dynamic"][here] = levels[np.searchsorted(times, onset[here], side="right") - 1]
        accents = [direction.time for direction in heard if direction.meaning.accent]
        notes["articulation"][here & np.isin(onset, accents)] |= _FLAG["sforzando"]
        ramp = np.zeros(len(notes), "i1")
        _fill(ramp, onset, _loudness_ramps(heard, markings.bars))
        notes["ramp"][here] = ramp[here]


def add_tempo(notes: np.ndarray, onset: np.ndarray, markings: Markings) -> None:
    """Fill in ``tempo`` and ``tempo_ramp``.

    A printed metronome mark goes before a played tempo (``<sound tempo>``), that before a word. "a tempo" returns to
    the last tempo that was named, "tempo primo" to the first. A ramp lasts until something else is said of the tempo,
    or for ``TEMPO_BARS``.

    Args:
        notes: (n,) SCORE_NOTE, with the metre.
        onset: (n,) in divs, ascending.
        markings: the part's.
    """
    said = [direction for direction in markings.directions if direction.kind == "tempo" or _of_tempo(direction)]
    together = [list(group) for _, group in groupby(said, key=lambda direction: direction.time)]
    times = np.array([-1, *(group[0].time for group in together)])
    metre = notes[["beats", "beat_type"]][np.minimum(np.searchsorted(onset, times[1:]), len(onset) - 1)]
    quarters = np.array([0.0, *_tempi(together, [_felt_beat(int(m["beats"]), int(m["beat_type"])) for m in metre])])
    in_force = quarters[np.searchsorted(times, onset, side="right") - 1]
    notes["tempo"] = in_force * notes["beat_type"] / 4
    spans = []
    for group, until in zip(together, [*times[2:], np.inf], strict=False):
        if sign := next((d.meaning.tempo_ramp for d in group if d.meaning.tempo_ramp), 0):
            time = group[0].time
            spans.append((time, min(until, _bars_on(markings.bars, time, TEMPO_BARS)), sign))
    _fill(notes["tempo_ramp"], onset, spans)


def add_pedal(notes: np.ndarray, onset: np.ndarray, markings: Markings) -> None:
    """Add the flag "pedal" to notes that begin between a pedal mark and its release."""
    pedal = np.zeros(len(notes), "i1")
    marks = [direction for direction in markings.directions if direction.kind == "pedal"]
    _fill(pedal, onset, ((mark.time, mark.value, 1) for mark in marks if np.isfinite(mark.value)))
    notes["articulation"][pedal > 0] |= _FLAG["pedal"]


def add_articulation(notes: np.ndarray, onset: np.ndarray, written: list[Any], slurs: list[Any]) -> None:
    """Add each note's own articulations, ornaments and fermata, and where slurs begin, last and end.

    Args:
        notes: (n,) SCORE_NOTE, with voices.
        onset: (n,) in divs, ascending.
        written: partitura's notes, n of them.
        slurs: partitura's slurs.
    """
    flags, voice = notes["articulation"], notes["voice"]
    for row, note in enumerate(written):
        for name in (*(note.articulations or ()), *(note.ornaments or ())):
            flags[row] |= _MARKED.get(name, 0)
        if note.fermata is not None:
            flags[row] |= _FLAG["fermata"]
    for slur in slurs:
        if slur.start_note is not None and slur.end_note is not None:
            first, last = slur.start_note.start.t, slur.end_note.start.t
            span = slice(*np.searchsorted(onset, (first, last + 1)))
            own = voice[span] == slur.start_note.voice
            flags[span][own] |= _FLAG["slur"]
            flags[span][own & (onset[span] == first)] |= _FLAG["slur-start"]
            flags[span][own & (onset[span] == last)] |= _FLAG["slur-stop"]


def add_arpeggios(notes: np.ndarray, written: list[Any], markings: Markings) -> None:
    """Add the flag "arpeggio"."""
    broken = [note.doc_order in markings.arpeggiated for note in written]
    notes["articulation"][broken] |= _FLAG["arpeggio"]


def _fill(column: np.ndarray, onset: np.ndarray, spans: Iterable[Span]) -> None:
    for start, until, value in spans:
        column[slice(*np.searchsorted(onset, (start, until)))] = value


def _heard(directions: list[Direction], staff: int) -> list[Direction]:
    """The directions of loudness that a staff follows: its own, and others' where it has none at the time."""
    loudness = [direction for direction in directions if _of_loudness(direction)]
    own = {direction.time for direction in loudness if direction.staff == staff}
    return [d for d in loudness if d.staff in (0, staff) or d.time not in own or d.kind == "dashes-stop"]


def _of_loudness(direction: Direction) -> bool:
    said = direction.meaning
    by_words = bool(said.level or said.step or said.accent or said.loudness_ramp)
    return by_words or direction.kind in ("crescendo", "diminuendo", "dashes-stop")


def _of_tempo(direction: Direction) -> bool:
    said = direction.meaning
    return bool(said.beats or said.reset or said.tempo_ramp or said.factor != 1)


def _levels(heard: list[Direction]) -> list[tuple[int, int]]:
    changes, level = [], 0
    for direction in heard:
        said = direction.meaning
        if said.level or (said.step and level):
            level = said.level or min(max(level + said.step, 1), len(DYNAMICS) - 1)
            changes.append((direction.time, level))
    return changes


def _loudness_ramps(heard: list[Direction], bars: list[int]) -> Iterator[Span]:
    for place, direction in enumerate(heard):
        wedge = {"crescendo": 1, "diminuendo": -1}.get(direction.kind, 0)
        if sign := wedge or direction.meaning.loudness_ramp:
            until = direction.value if wedge else np.inf
            if until == np.inf:
                until = min(_next_change(direction, heard[place + 1 :]), _bars_on(bars, direction.time, LOUDNESS_BARS))
            yield direction.time, until, sign


def _next_change(ramp: Direction, following: list[Direction]) -> float:
    """Where the next level, ramp or end of dashes stands; accents change nothing."""
    for direction in following:
        said = direction.meaning
        if direction.time > ramp.time and (said.level or said.step or said.loudness_ramp or direction.kind != "words"):
            return direction.time
    return np.inf


def _bars_on(bars: list[int], time: float, count: int) -> float:
    """The bar line ``count`` bars after the next one."""
    place = bisect_right(bars, time) + count
    return bars[place] if place < len(bars) else np.inf


def _felt_beat(beats: int, beat_type: int) -> float:
    """Quarter notes of the beat that words of tempo count: dotted in compound metres."""
    return (3 if beats in (6, 9, 12) and beat_type >= 8 else 1) * 4 / beat_type


def _tempi(together: list[list[Direction]], felt_beats: list[float]) -> Iterator[float]:
    """Quarter notes a minute from each time on, 0 while nobody knows; words may double a tempo, but not for ever."""
    tempo = main = first = 0.0
    for group, felt_beat in zip(together, felt_beats, strict=True):
        number = next((direction.value for direction in group if direction.kind == "tempo"), 0.0)
        named = next((direction.meaning.beats for direction in group if direction.meaning.beats), 0.0)
        reset = next((direction.meaning.reset for direction in group if direction.meaning.reset), "")
        if number or named:
            tempo = number or named * felt_beat
        elif reset:
            tempo = (first if reset == "first" else main) or tempo
        else:
            tempo *= math.prod(direction.meaning.factor for direction in group)
        tempo = min(max(tempo, SLOWEST), FASTEST) if tempo else tempo
        main = tempo if named or not main else main
        first = first or tempo
        yield tempo
