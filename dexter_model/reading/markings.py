"""A written part's markings, as columns beside its notes: dynamics in force, ramps, articulation and slurs.

Markings stand in the score once and hold for stretches of notes; a model wants them at every note. Dynamics and ramps
hold for the whole part (on the piano a marking between the staves means both), slurs for the voice they start in.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dexter_model.notes import ARTICULATIONS, DYNAMICS

_FLAG = {name: 1 << bit for bit, name in enumerate(ARTICULATIONS)}
_FLAG |= {"detached-legato": _FLAG["staccato"] | _FLAG["tenuto"], "spiccato": _FLAG["staccatissimo"]}

_LEVEL = {name: level for level, name in enumerate(DYNAMICS) if level}
_LEVEL |= {"pianissimo": 2, "piano": 3, "mezzo piano": 4, "mezzo forte": 5, "forte": 6, "fortissimo": 7}
_LEVEL |= {"fp": 3, "sfp": 3, "sfpp": 2, "pf": 6}  # what holds after the accent


def dynamics_in_force(loudness: list[Any], onset: np.ndarray) -> np.ndarray:
    """Level (index into ``DYNAMICS``) of the last dynamic marking at or before each onset, 0 before the first.

    Args:
        loudness: partitura's loudness directions, in score order.
        onset: (n,) in divs.
    """
    marked = [(direction.start.t, level) for direction in loudness if (level := _level(direction.text))]
    times, levels = np.array([(-1, 0), *marked]).T
    return levels[np.searchsorted(times, onset, side="right") - 1].astype("i1")


def _level(text: str) -> int:
    text = text.strip().lower()
    if len(text) > 3 and set(text) in ({"p"}, {"f"}):
        text = text[:3]  # pppp and beyond
    return _LEVEL.get(text, 0)


def ramps(rising: list[Any], falling: list[Any], loudness: list[Any], onset: np.ndarray) -> np.ndarray:
    """+1 inside a crescendo, -1 inside a diminuendo, else 0; one without an end lasts to the next loudness direction.

    Args:
        rising: partitura's directions of increasing loudness, wedges and words.
        falling: those of decreasing loudness.
        loudness: all loudness directions, in score order.
        onset: (n,) in divs.
    """
    ramp = np.zeros(len(onset), "i1")
    times = np.array([direction.start.t for direction in loudness] + [np.inf])
    for directions, sign in ((rising, 1), (falling, -1)):
        for direction in directions:
            start, end = direction.start.t, direction.end
            until = times[np.searchsorted(times, start, side="right")] if end is None else end.t
            ramp[(onset >= start) & (onset < until)] = sign
    return ramp


def articulation_flags(notes: list[Any], onset: np.ndarray, voice: np.ndarray, slurs: list[Any]) -> np.ndarray:
    """Bit flags (``ARTICULATIONS``) of each note: its own articulations, its fermata, and whether it is under a slur.

    Args:
        notes: partitura's notes, n of them.
        onset: (n,) in divs, ascending.
        voice: (n,).
        slurs: partitura's slurs.
    """
    flags = np.zeros(len(notes), "u2")
    for row, note in enumerate(notes):
        for name in note.articulations or ():
            flags[row] |= _FLAG.get(name, 0)
        if note.fermata is not None:
            flags[row] |= _FLAG["fermata"]
    for slur in slurs:
        if slur.start_note is not None and slur.end_note is not None:
            span = slice(*np.searchsorted(onset, (slur.start_note.start.t, slur.end_note.start.t + 1)))
            flags[span][voice[span] == slur.start_note.voice] |= _FLAG["slur"]
    return flags
